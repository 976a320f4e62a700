// The model @name@, compiled by dlpack.
plugins {
    kotlin("jvm")
    `java-library`
}

group = "dlpack"
version = "@version@"
