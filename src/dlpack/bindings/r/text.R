utf8 <- function(text) {
  if (!is.character(text) || length(text) != 1 || is.na(text)) stop("a text is one string", call. = FALSE)
  charToRaw(if (Encoding(text) == "bytes") text else enc2utf8(text))
}

# What C gives; a status comes alone and as an integer, and is an error if it is not 0.
checked <- function(given, before = NULL) {
  if (!is.integer(given) || given == 0L) return(given)
  if (given == 9L) stop("@too_long@", call. = FALSE)
#@ if decodes
  if (given == 1L) stop("@refused@", call. = FALSE)
  if (given == 10L) {
    full <- list(message = "@full@", call = NULL, before = before)
    stop(structure(class = c("dlpack_full", "error", "condition"), full))
  }
#@ end
  stop("the text cannot be used: status ", given, call. = FALSE)
}
#@ if tokenizer

#' The ids of a text
#'
#' @param predictor A predictor.
#' @param text A string. Broken UTF-8 counts as U+FFFD.
#' @param special Whether the tokens around a text are added.
#' @return A vector of ids.
#' @export
tokenize <- function(predictor, text, special = TRUE) {
  checked(.Call(c_tokenize, predictor$handle, utf8(text), special))
}

#' The text of ids
#'
#' @param predictor A predictor.
#' @param ids A vector of ids; those without a token are left out.
#' @param special Whether special tokens are written, too.
#' @return A string.
#' @export
detokenize <- function(predictor, ids, special = FALSE) {
  checked(.Call(c_detokenize, predictor$handle, as.integer(ids), special))
}
#@ end
#@ if embeds

#' The embedding of a text
#'
#' @param predictor A predictor.
#' @param text A string.
#' @param cut Whether the beginning of a text that is too long is taken; otherwise it is an error.
#' @return A vector of @embedding@ numbers.
#' @export
embed <- function(predictor, text, cut = FALSE) {
  data <- utf8(text)
  found <- .Call(c_embed, predictor$handle, data, cut)
  if (identical(found, 9L) && length(data) <= @text_bytes@) stop("@too_many_tokens@", call. = FALSE)
  checked(found)
}
#@ end
#@ if decodes

#' Writes tokens
#'
#' @param predictor A predictor.
#' @param prompt The tokens before.
#' @param max_tokens The most tokens to write.
#' @param temperature 0: the likeliest token each time. Else a token's chance is softmax(scores / temperature).
#' @param top_k Only the so many likeliest are chosen from; 0: all.
#' @param top_p Of those only the likeliest that together have at least this share.
#' @param seed The same seed gives the same text.
#' @param stop Tokens that end the text and are not given.
#' @param keep Whether the prompt goes on from the text so far, that the predictor has read and written.
#' @param on_token Is called with each token; TRUE ends the text.
#' @return The tokens that the model writes after the prompt. A text that gets too long is an error of the class
#'   `dlpack_full`, whose `before` has the tokens so far.
#' @export
generate <- function(predictor, prompt, max_tokens = 128, temperature = 0, top_k = 0, top_p = 1, seed = 0,
                     stop = numeric(), keep = FALSE, on_token = NULL) {
  how <- c(max_tokens, temperature, top_k, top_p, seed)
  unlist(written(predictor, as.double(prompt), how, stop, keep, on_token), use.names = FALSE)
}

# The tokens or pieces that are written, a list.
written <- function(predictor, prompt, how, stop, keep, then) {
  if (how[1] < 0) base::stop(how[1], " is no number of tokens", call. = FALSE)
  given <- list()
  thrown <- NULL
  take <- function(value) {
    given[[length(given) + 1L]] <<- value
    if (is.null(then)) return(FALSE)
    tryCatch(isTRUE(then(value)), error = function(e) {
      thrown <<- e
      TRUE
    })
  }
  if (!is.null(stop)) stop <- as.double(stop)
  status <- .Call(c_generate, predictor$handle, prompt, as.double(how), stop, keep, take, environment())
  if (!is.null(thrown)) base::stop(thrown)
  checked(status, given)
  given
}
#@ end
#@ if writes

#' Writes text
#'
#' @inheritParams generate
#' @param prompt The text before, a string.
#' @param stop Tokens that end the text; NULL: those that the model names.
#' @param on_text Is called with each piece of the text; TRUE ends it.
#' @return What the model writes after the prompt. A text that gets too long is an error of the class `dlpack_full`, whose
#'   `before` has the pieces so far.
#' @export
write_text <- function(predictor, prompt, max_tokens = 128, temperature = 0, top_k = 0, top_p = 1, seed = 0,
                       stop = NULL, keep = FALSE, on_text = NULL) {
  how <- c(max_tokens, temperature, top_k, top_p, seed)
  paste(unlist(written(predictor, utf8(prompt), how, stop, keep, on_text)), collapse = "")
}
#@ end
