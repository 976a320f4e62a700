package = "@rock@"
version = "@version@-1"
source = { url = "." }
description = { summary = "A trained model compiled by dlpack" }
dependencies = { "lua == 5.1" } -- LuaJIT
build = {
  type = "builtin",
  modules = { @name@ = "@name@.lua", @name@_c = "@name@_c.lua" },
  install = { lua = { "@library@" } },
}
