library(writer)

prompt <- enc2utf8(commandArgs(trailingOnly = TRUE)[1])
p <- predictor()
told <- function(text) {
  utf8 <- charToRaw(enc2utf8(text))
  paste(length(utf8), sum(as.integer(utf8)))
}
say <- function(...) cat(..., "\n")
refused <- function(name, call) {
  e <- tryCatch({ call; NULL }, error = identity)
  say(paste0(name, ":"), if (is.null(e)) "no error" else conditionMessage(e))
  invisible(e)
}
drawn <- function(call, ...) call(p, ..., temperature = 1.2, top_k = 50, top_p = 0.95, seed = 7)

ids <- tokenize(p, prompt)
say("ids", ids)
say("back", detokenize(p, ids))
say("plain", length(tokenize(p, prompt, special = FALSE)))
say("tokens", drawn(generate, ids, 6))
pieces <- 0
text <- drawn(write_text, prompt, 20, on_text = function(piece) pieces <<- pieces + 1)
say("text", told(text), pieces)
say("first", told(drawn(write_text, prompt, 20, on_text = function(piece) TRUE)))
invisible(drawn(write_text, prompt, 5))
say("kept", told(write_text(p, "and", 4, keep = TRUE)))
full <- refused("full", write_text(p, prompt, 99, stop = numeric()))
say("written", told(paste(unlist(full$before), collapse = "")))
stopifnot(inherits(full, "dlpack_full"))
say("made", length(refused("full", generate(p, ids, 99))$before))
bytes <- "a\xff"
Encoding(bytes) <- "bytes"
say("broken", if (identical(tokenize(p, bytes), tokenize(p, "a\ufffd"))) "true" else "false")
refused("long", tokenize(p, strrep("a", 40000)))
refused("empty", generate(p, numeric()))
refused("token", generate(p, 9999))
refused("sampler", write_text(p, prompt, temperature = 1, top_p = 2))
refused("callback", write_text(p, prompt, on_text = function(piece) stop("of its own")))
refused("type", tokenize(p, 5))
refused("nested", write_text(p, prompt, on_text = function(piece) tokenize(p, "a")))
close(p)
refused("closed", tokenize(p, prompt))
