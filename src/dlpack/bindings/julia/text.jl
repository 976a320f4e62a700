const TOO_LONG = 9
#@ if decodes
const REFUSED, FULL = 1, 10
#@ end

function check_text(status)
    status == TOO_LONG && throw(ArgumentError("@too_long@"))
#@ if decodes
    status == REFUSED && throw(ArgumentError("@refused@"))
#@ end
    check(status)
end
#@ if tokenizer

"""
    tokenize(predictor, text; special = true)

The ids of a text; `special`: with the tokens around it. Broken UTF-8 counts as U+FFFD. Throws `ArgumentError` for a
text that is too long.
"""
function tokenize(p::Predictor, text::AbstractString; special::Bool = true)
    handle, utf8, count = opened(p), String(text), Ref{Csize_t}(sizeof(text) + 16)
    while true
        ids = Vector{Int32}(undef, count[])
        status = GC.@preserve p ccall(
            (:@name@_tokenize, LIBRARY), Int32,
            (Ptr{Cvoid}, Ptr{UInt8}, Csize_t, Int32, Ptr{Int32}, Csize_t, Ref{Csize_t}),
            handle, utf8, sizeof(utf8), special, ids, length(ids), count)
        status == TOO_LONG && count[] > 0 && continue
        check_text(status)
        return resize!(ids, count[])
    end
end

"""
    detokenize(predictor, ids; special = false)

The text of ids; `special`: with special tokens. Ids without a token are left out.
"""
function detokenize(p::Predictor, ids::AbstractVector{<:Integer}; special::Bool = false)
    handle, given, bytes = opened(p), Vector{Int32}(ids), Ref{Csize_t}(16 * length(ids))
    while true
        text = Vector{UInt8}(undef, bytes[])
        status = GC.@preserve p ccall(
            (:@name@_detokenize, LIBRARY), Int32,
            (Ptr{Cvoid}, Ptr{Int32}, Csize_t, Int32, Ptr{UInt8}, Csize_t, Ref{Csize_t}),
            handle, given, length(given), special, text, length(text), bytes)
        status == TOO_LONG && continue
        check_text(status)
        return String(resize!(text, bytes[]))
    end
end
#@ end
#@ if embeds

"""
    embed(predictor, text; cut = false)

The embedding of a text, @embedding@ numbers; `cut`: of the beginning of a text that is too long, for which
`ArgumentError` is thrown otherwise.
"""
function embed(p::Predictor, text::AbstractString; cut::Bool = false)
    handle, utf8, embedding = opened(p), String(text), Vector{Float32}(undef, @embedding@)
    status = GC.@preserve p ccall(
        (:@name@_embed, LIBRARY), Int32, (Ptr{Cvoid}, Ptr{UInt8}, Csize_t, Int32, Ptr{Float32}),
        handle, utf8, sizeof(utf8), cut, embedding)
    status == TOO_LONG && sizeof(utf8) <= @text_bytes@ && throw(ArgumentError("@too_many_tokens@"))
    check_text(status)
    return embedding
end
#@ end
#@ if decodes

"The text would get longer than a predictor keeps; `written` are the tokens or the text so far."
struct FullError <: Exception
    written::Any
end
Base.showerror(io::IO, ::FullError) = print(io, "FullError: @full@")

struct Sampler
    temperature::Float32
    top_k::Int32
    top_p::Float32
    seed::UInt64
end

# What C calls, and what that threw: C knows no exceptions.
mutable struct Taker
    take::Any
    thrown::Any
end

function ends(user, value)
    taker = unsafe_pointer_to_objref(user)
    try
        return Int32(taker.take(value) === true)
    catch e
        taker.thrown = e
        return Int32(1)
    end
end

take_token(user::Ptr{Cvoid}, token::Int64) = ends(user, token)
#@ if writes
take_text(user::Ptr{Cvoid}, text::Ptr{UInt8}, bytes::Csize_t) = ends(user, unsafe_string(text, bytes))
#@ end

# Calls what writes a text. Meanwhile the predictor is as if closed, so that nothing that is called can free it.
function written(call, p, take; temperature::Real = 0, top_k::Integer = 0, top_p::Real = 1, seed::Integer = 0, keep = false)
    handle, taker = opened(p), Taker(take, nothing)
    keep || check(ccall((:@name@_rewind, LIBRARY), Int32, (Ptr{Cvoid}, Csize_t), handle, 0))
    sampler = Ref(Sampler(temperature, top_k, top_p, seed % UInt64))
    p.handle = C_NULL
    status = try
        GC.@preserve taker call(handle, sampler, pointer_from_objref(taker))
    finally
        p.handle = handle
    end
    taker.thrown === nothing || throw(taker.thrown)
    return status
end

"""
    generate(predictor, prompt; max_tokens = 128, temperature = 0, top_k = 0, top_p = 1, seed = 0, stop = [], keep = false)
    generate(on_token, predictor, prompt; ...)

The tokens that the model writes after a prompt. With `temperature` 0 each is the likeliest, else its chance is
softmax(scores / temperature), among the `top_k` likeliest (0: all), and of those among the likeliest that together have
at least the share `top_p`. The same `seed` gives the same text. Tokens in `stop` end it. `keep`: the prompt goes on from
the text so far. `on_token` is called with each token; `true` ends the text.

Throws `ArgumentError` for a prompt that is empty or has a token that is none, `FullError` where the text gets too long.
"""
function generate(
    on_token, p::Predictor, prompt::AbstractVector{<:Integer};
    max_tokens::Integer = 128, stop::AbstractVector{<:Integer} = Int64[], how...)
    tokens, given, last = Int64[], Vector{Int64}(prompt), Vector{Int64}(stop)
    take(token) = (push!(tokens, token); on_token(token))
    status = written(p, take; how...) do handle, sampler, user
        ccall(
            (:@name@_generate, LIBRARY), Int32,
            (Ptr{Cvoid}, Ptr{Int64}, Csize_t, Csize_t, Ref{Sampler}, Ptr{Int64}, Csize_t, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid},
                Ptr{Cvoid}),
            handle, given, length(given), max_tokens, sampler, last, length(last),
            @cfunction(take_token, Int32, (Ptr{Cvoid}, Int64)), user, C_NULL, C_NULL)
    end
    status == FULL && throw(FullError(tokens))
    check_text(status)
    return tokens
end
generate(p::Predictor, prompt; how...) = generate(_ -> false, p, prompt; how...)
#@ end
#@ if writes

"""
    write_text(predictor, prompt; max_tokens = 128, temperature = 0, top_k = 0, top_p = 1, seed = 0, stop, keep = false)
    write_text(on_text, predictor, prompt; ...)

What the model writes after a prompt; the arguments are those of `generate`. Without `stop` the text ends at the tokens
that the model names. `on_text` is called with each piece; `true` ends the text.

Throws `ArgumentError` for a prompt that is empty or too long, `FullError` where the text gets too long.
"""
function write_text(
    on_text, p::Predictor, prompt::AbstractString;
    max_tokens::Integer = 128, stop::Union{AbstractVector{<:Integer},Nothing} = nothing, how...)
    text, utf8 = IOBuffer(), String(prompt)
    last = stop === nothing ? C_NULL : Vector{Int64}(stop)
    take(piece) = (print(text, piece); on_text(piece))
    status = written(p, take; how...) do handle, sampler, user
        ccall(
            (:@name@_write, LIBRARY), Int32,
            (Ptr{Cvoid}, Ptr{UInt8}, Csize_t, Csize_t, Ref{Sampler}, Ptr{Int64}, Csize_t, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Cvoid},
                Csize_t, Ptr{Cvoid}),
            handle, utf8, sizeof(utf8), max_tokens, sampler, last, stop === nothing ? 0 : length(last),
            @cfunction(take_text, Int32, (Ptr{Cvoid}, Ptr{UInt8}, Csize_t)), user, C_NULL, 0, C_NULL)
    end
    status == FULL && throw(FullError(String(take!(text))))
    check_text(status)
    return String(take!(text))
end
write_text(p::Predictor, prompt; how...) = write_text(_ -> false, p, prompt; how...)
#@ end
