# Uses the installed package found; what it prints is read by test_bindings_sets.py.
library(found)
file <- commandArgs(trailingOnly = TRUE)[1]
picture <- aperm(array(as.integer(readBin(file, "raw", 105)), c(3, 7, 5)))
fails <- function(name, expression) {
  cat(name, ": ", tryCatch({ expression; "no error" }, error = conditionMessage), "\n", sep = "")
}

p <- predictor()
set_threads(p, 2)
set_shape_of(p, "image", c(1, 3, 8, 8))
twice <- run(p, list(image = array(1.5, c(1, 3, 8, 8))))$twice
cat("set", shape(p), length(twice), twice[1, 3, 8, 8], "\n")
set_shape(p, 0)
twice <- run(p, list(image = rep(2.5, 108)))$twice
cat("set", shape(p), length(twice), twice[1, 3, 6, 6], "\n")
for (d in split(found <- detect(p, picture), seq_len(nrow(found)))) {
  cat("found", d$index, d$label, format(unlist(d[3:7]), digits = 9), "\n")
}
cat("sure", nrow(detect(p, picture, 2)), "\n")
small <- predictor(largest = list(image = c(1, 3, 8, 8)))
set_shape_of(small, "image", c(1, 3, 8, 8))
cat("small", run(small, list(image = rep(1.5, 192)))$twice[1, 3, 8, 8], "\n")
fails("memory", set_shape_of(small, "image", c(1, 3, 206, 206)))
fails("memory", set_shape(small, 10200))
fails("largest", predictor(largest = list(image = c(1, 3, 8, 7))))
fails("input", predictor(largest = list(picture = c(1, 3, 8, 8))))
fails("bounds", set_shape_of(p, "image", c(1, 3, 8, 208)))
fails("step", set_shape_of(p, "image", c(1, 3, 8, 7)))
fails("name", set_shape_of(p, "picture", c(1, 3, 8, 8)))
fails("length", run(p, list(image = rep(1, 192))))
fails("picture", detect(p, picture[, , 1]))
fails("shape", set_shape(p, 10201))
fails("threads", set_threads(p, 3))
close(p)
fails("closed", set_shape(p, 0))
fails("closed", set_shape_of(p, "image", c(1, 3, 8, 8)))
fails("closed", set_threads(p, 1))
fails("closed", detect(p, picture))
