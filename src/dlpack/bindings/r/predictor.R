#' The neural network @name@. @about@
#'
#' Inputs of `run`, by name:
#'
@input_docs@
#'
#' Outputs:
#'
@output_docs@
#'
#' An array has the tensor's dimensions (`x[n, c, h, w]`); a vector has its elements row-major, the last dimension fastest.
#'
#' @name @package@
NULL

INPUTS <- list(
  @inputs@
)
OUTPUTS <- list(
  @outputs@
)

#' A predictor
#'
#@ if side
#' @param weights The path of the file @weights@ of the bundle.
#@ end
#' @return A predictor for `run`; `close` gives its memory back, else the garbage collector does.
#' @export
#@ if side
predictor <- function(weights) {
  structure(list(handle = .Call(c_create, weights)), class = "dlpack_predictor")
}
#@ else
predictor <- function() {
  structure(list(handle = .Call(c_create)), class = "dlpack_predictor")
}
#@ end

#' Computes all outputs
#'
#' @param predictor A predictor.
#' @param inputs A named list of numeric vectors or arrays.
#' @return A named list of arrays.
#' @export
run <- function(predictor, inputs) {
  stopifnot(inherits(predictor, "dlpack_predictor"), is.list(inputs))
  known <- names(INPUTS)
  unknown <- setdiff(names(inputs), known)
  if (length(unknown)) stop("unknown input ", unknown[1], "; the model has ", toString(known), call. = FALSE)
  values <- lapply(known, function(name) row_major(name, inputs[[name]], INPUTS[[name]]))
  for (k in seq_along(known)) .Call(c_set_input, predictor$handle, k - 1L, values[[k]])
  .Call(c_compute, predictor$handle)
  values <- lapply(seq_along(OUTPUTS), function(k) {
    shape <- OUTPUTS[[k]]
    aperm(array(.Call(c_get_output, predictor$handle, k - 1L), rev(shape)))
  })
  stats::setNames(values, names(OUTPUTS))
}

row_major <- function(name, value, shape) {
  told <- paste0("input ", name, " (", paste(shape, collapse = "x"), ")")
  if (is.null(value)) stop(told, " is missing", call. = FALSE)
  if (!is.numeric(value) && !is.logical(value)) stop(told, " is ", class(value)[1], ", not numeric", call. = FALSE)
  if (length(value) != prod(shape)) {
    stop(told, " has ", length(value), " elements; ", prod(shape), " are needed", call. = FALSE)
  }
  if (is.array(value)) {
    if (!identical(dim(value), shape)) stop(told, " has dimensions ", paste(dim(value), collapse = "x"), call. = FALSE)
    value <- aperm(value)
  }
  as.double(value)
}
#@ if pictures

#' The likeliest classes of a picture
#'
#' @param predictor A predictor.
#' @param picture An array height x width x 3 of the integers 0 to 255 (red, green, blue).
#' @param count How many classes.
#' @return A data frame with index (from 0), label and probability, the likeliest first.
#' @export
classify <- function(predictor, picture, count = 5L) {
  stopifnot(inherits(predictor, "dlpack_predictor"))
  size <- dim(picture)
  if (length(size) != 3 || size[3] != 3 || !is.numeric(picture) || anyNA(picture) || any(picture < 0 | picture > 255)) {
    stop("the picture is to be an array height x width x 3 of the integers 0 to 255", call. = FALSE)
  }
  .Call(c_preprocess, predictor$handle, as.raw(aperm(picture)), size[2], size[1])
  .Call(c_compute, predictor$handle)
  top(predictor, count)
}
#@ end
#@ if numbers

#' The likeliest classes
#'
#' @param predictor A predictor.
#' @param inputs As for `run`.
#' @param count How many classes.
#' @return A data frame with index (from 0), label and probability, the likeliest first.
#' @export
classify <- function(predictor, inputs, count = 5L) {
  run(predictor, inputs)
  top(predictor, count)
}
#@ end
#@ if classes

top <- function(predictor, count) {
  found <- .Call(c_top_k, predictor$handle, min(as.integer(count), @classes@L))
  label <- ifelse(is.na(found[[2]]), as.character(found[[1]]), found[[2]])
  data.frame(index = found[[1]], label = label, probability = found[[3]])
}
#@ end

#' @export
close.dlpack_predictor <- function(con, ...) invisible(.Call(c_destroy, con$handle))

