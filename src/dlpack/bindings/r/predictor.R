#' The model @name@. @about@
#'
#' Inputs of `run`, by name:
#'
@input_docs@
#'
#' Outputs:
#'
@output_docs@
#'
#' An array has the tensor's dimensions (`x[n, c, h, w]`); a vector its elements row-major, the last dimension fastest.
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
#@ if open
#' @param largest The shapes that inputs have at most, as in `list(image = c(1, 3, 64, 64))`: it takes memory for no
#'   more. Without it, it does for all.
#@ end
#' @return A predictor for `run`; `close` gives its memory back, else the garbage collector does.
#' @export
#@ if side
#@ if open
predictor <- function(weights, largest = list()) {
  structure(list(handle = .Call(c_create, weights, memory_for(largest))), class = "dlpack_predictor")
}
#@ else
predictor <- function(weights) {
  structure(list(handle = .Call(c_create, weights)), class = "dlpack_predictor")
}
#@ end
#@ else
#@ if open
predictor <- function(largest = list()) {
  structure(list(handle = .Call(c_create, memory_for(largest))), class = "dlpack_predictor")
}
#@ else
predictor <- function() {
  structure(list(handle = .Call(c_create)), class = "dlpack_predictor")
}
#@ end
#@ end
#@ if open

memory_for <- function(largest) {
  sizes <- vapply(names(largest), function(name) {
    index <- index_of(name)
    bytes <- .Call(c_memory_size_for, index - 1L, as.double(largest[[name]]))
    if (bytes == 0) misfit(index, largest[[name]])
    bytes
  }, 0)
  max(0, sizes)
}

index_of <- function(name) {
  index <- match(name, names(INPUTS))
  if (is.na(index)) stop("unknown input ", name, "; the model has ", toString(names(INPUTS)), call. = FALSE)
  index
}

misfit <- function(index, extents) {
  told <- c(@shapes@)[index]
  stop("input ", names(INPUTS)[index], " can be ", told, ", not ", paste(extents, collapse = "x"), call. = FALSE)
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
  values <- lapply(seq_along(known), function(k) row_major(known[k], inputs[[known[k]]], @input_shape@))
  for (k in seq_along(known)) .Call(c_set_input, predictor$handle, k - 1L, values[[k]])
  .Call(c_compute, predictor$handle)
  values <- lapply(seq_along(OUTPUTS), function(k) {
    shape <- @output_shape@
    aperm(array(.Call(c_get_output, predictor$handle, k - 1L, prod(shape)), rev(shape)))
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
#@ if shapes

#' The set of shapes
#'
#' Inputs and outputs have the shapes of one of these sets, at first those of 0:
#'
@shape_docs@
#'
#' @param predictor A predictor.
#' @return The number of the set that it uses.
#' @export
shape <- function(predictor) .Call(c_shape, predictor$handle)

#' Chooses a set of shapes for what comes next
#'
#' @param predictor A predictor.
#' @param number The number of a set; see `shape`.
#' @export
set_shape <- function(predictor, number) {
  stopifnot(inherits(predictor, "dlpack_predictor"))
  if (!number %in% 0:(@shape_count@ - 1)) stop("set of shapes ", number, ": there are @shape_count@, from 0 on", call. = FALSE)
  invisible(.Call(c_set_shape, predictor$handle, as.integer(number)))
}
#@ if open

#' Gives an input another shape, and all else what goes with it
#'
#' @param predictor A predictor.
#' @param name The input's name.
#' @param extents Its dimensions, as in `c(1, 3, 64, 64)`.
#' @export
set_shape_of <- function(predictor, name, extents) {
  stopifnot(inherits(predictor, "dlpack_predictor"), is.numeric(extents))
  index <- index_of(name)
  if (!.Call(c_reshape, predictor$handle, index - 1L, as.double(extents))) misfit(index, extents)
  invisible(NULL)
}
#@ end
#@ end
#@ if threads

#' Chooses how many threads compute
#'
#' @param predictor A predictor.
#' @param count At most @threads@; at first there are as many as processors.
#' @export
set_threads <- function(predictor, count) {
  stopifnot(inherits(predictor, "dlpack_predictor"))
  if (!count %in% 1:@threads@) stop(count, " threads: from 1 to @threads@ can be chosen", call. = FALSE)
  invisible(.Call(c_set_threads, predictor$handle, as.integer(count)))
}
#@ end
#@ if pictures

run_picture <- function(predictor, picture) {
  stopifnot(inherits(predictor, "dlpack_predictor"))
  size <- dim(picture)
  if (length(size) != 3 || size[3] != 3 || !is.numeric(picture) || anyNA(picture) || any(picture < 0 | picture > 255)) {
    stop("the picture is to be an array height x width x 3 of the integers 0 to 255", call. = FALSE)
  }
  .Call(c_preprocess, predictor$handle, as.raw(aperm(picture)), size[2], size[1])
  .Call(c_compute, predictor$handle)
  size
}
#@ if classes

#' The likeliest classes of a picture
#'
#' @param predictor A predictor.
#' @param picture An array height x width x 3 of the integers 0 to 255 (red, green, blue).
#' @param count How many classes.
#' @return A data frame with index (from 0), label and probability, the likeliest first.
#' @export
classify <- function(predictor, picture, count = 5L) {
  run_picture(predictor, picture)
  top(predictor, count)
}
#@ end
#@ if boxes

#' What is in a picture
#'
#' @param predictor A predictor.
#' @param picture An array height x width x 3 of the integers 0 to 255 (red, green, blue).
#' @param threshold The least score.
#' @return A data frame, the surest first, with index (from 0), label, score, and the upper left corner x, y, width and
#'   height in pixels.
#' @export
detect <- function(predictor, picture, threshold = @threshold@) {
  size <- run_picture(predictor, picture)
  found <- .Call(c_detections, predictor$handle, size[2], size[1], as.double(threshold))
  names(found) <- c("index", "label", "score", "x", "y", "width", "height")
  found$label <- named(found$label, found$index)
  data.frame(found)
}
#@ end
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
  found <- .Call(c_top_k, predictor$handle, min(as.integer(count), @class_count@))
  data.frame(index = found[[1]], label = named(found[[2]], found[[1]]), probability = found[[3]])
}
#@ end
#@ if lists

named <- function(label, index) ifelse(is.na(label), as.character(index), label)
#@ end

#' @export
close.dlpack_predictor <- function(con, ...) invisible(.Call(c_destroy, con$handle))

