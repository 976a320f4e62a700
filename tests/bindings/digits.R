# Uses the installed package digits; what it prints is read by test_bindings.py.
library(digits)
files <- commandArgs(trailingOnly = TRUE)
numbers <- readBin(files[1], "numeric", 64, size = 4)
image <- aperm(array(numbers, c(8, 8, 1, 1)))
picture <- aperm(array(as.integer(readBin(files[2], "raw", 192)), c(3, 8, 8)))
fails <- function(name, expression) {
  cat(name, ": ", tryCatch({ expression; "no error" }, error = conditionMessage), "\n", sep = "")
}

model <- predictor()
y <- run(model, list(image = image))$probability
stopifnot(identical(dim(y), c(1L, 10L)), identical(y, run(model, list(image = numbers))$probability))
for (p in y) cat("run", format(p, digits = 9), "\n")
classes <- classify(model, picture, 3)
for (i in 1:3) cat("class", classes$index[i], classes$label[i], format(classes$probability[i], digits = 9), "\n")
fails("length", run(model, list(image = numbers[-1])))
fails("length", run(model, list(image = array(numbers, c(8, 8, 1, 1)))))
fails("missing", run(model, list()))
fails("type", run(model, list(image = as.character(numbers))))
fails("unknown", run(model, list(image = image, mask = image)))
fails("picture", classify(model, picture[, , 1]))
fails("picture", classify(model, picture + 200L))
fails("count", classify(model, picture, 0))
close(model)
close(model)
fails("closed", run(model, list(image = image)))
fails("closed", classify(model, picture))
