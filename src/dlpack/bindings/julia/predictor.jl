"""
The neural network @name@. @about@

Inputs of `run`, by name:

@input_docs@

Outputs:

@output_docs@

An array has the tensor's dimensions (`x[n, c, h, w]`); a vector has its elements row-major, the last dimension fastest.
"""
module @Name@

export Predictor, classify

const LIBRARY = joinpath(@__DIR__, "..", "lib", "@library@")
const INPUTS = [
    @inputs@
]
const OUTPUTS = [
    @outputs@
]

"""
#@ if side
    Predictor(weights)

Maps the weights, the file @weights@ of the bundle, of that path.
#@ else
    Predictor()
#@ end

A compiled model. It serves one task at a time; make one for each. `close` gives its memory back, else the garbage
collector does.
"""
mutable struct Predictor
    handle::Ptr{Cvoid}

#@ if side
    function Predictor(weights::AbstractString)
        made = Ref{Ptr{Cvoid}}(C_NULL)
        check(ccall((:@name@_create_from_file, LIBRARY), Int32, (Ref{Ptr{Cvoid}}, Cstring), made, weights))
#@ else
    function Predictor()
        made = Ref{Ptr{Cvoid}}(C_NULL)
        status = ccall(
            (:@name@_create, LIBRARY), Int32, (Ref{Ptr{Cvoid}}, Ptr{Cvoid}, Csize_t, Ptr{Cvoid}, Csize_t),
            made, C_NULL, 0, C_NULL, 0)
        check(status)
#@ end
        return finalizer(close, new(made[]))
    end
end

"Gives the memory back; closing twice is no error."
function Base.close(p::Predictor)
    ccall((:@name@_destroy, LIBRARY), Cvoid, (Ptr{Cvoid},), p.handle)
    p.handle = C_NULL
    return nothing
end

"""
    run(predictor, "name" => array, ...)

Computes all outputs: a `Dict` of arrays by name. Throws `ArgumentError` for an input that is missing, unknown or
ill-formed, and for a predictor that is closed.
"""
function Base.run(p::Predictor, inputs::Pair...)
    handle, given = opened(p), Dict{String,Any}(inputs...)
    for name in keys(given)
        any(first(i) == name for i in INPUTS) || throw(ArgumentError("unknown input $name"))
    end
    data = [row_major(name, get(given, name, nothing), kind...) for (name, kind) in INPUTS]
    GC.@preserve p begin
        for (index, x) in enumerate(data)
            check(ccall(
                (:@name@_set_input, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Ptr{Cvoid}, Csize_t),
                handle, index - 1, x, sizeof(x)))
        end
        compute(handle)
        return Dict(name => output(handle, index, kind...) for (index, (name, kind)) in enumerate(OUTPUTS))
    end
end
#@ if pictures

"""
    classify(predictor, picture, count = 5)

The likeliest classes of a picture, the likeliest first, as named tuples `(index, label, probability)`; `index` counts
from 0. The picture is an array of height x width x 3 bytes: red, green, blue.
"""
function classify(p::Predictor, picture::AbstractArray{UInt8,3}, count::Integer = 5)
    handle = opened(p)
    height, width, channels = size(picture)
    channels == 3 && !isempty(picture) || throw(ArgumentError("a picture is height x width x 3; this is $(size(picture))"))
    rgb = vec(permutedims(picture, (3, 2, 1)))
    GC.@preserve p begin
        check(ccall(
            (:@name@_preprocess_rgb, LIBRARY), Int32, (Ptr{Cvoid}, Ptr{UInt8}, Int32, Int32, Cptrdiff_t),
            handle, rgb, width, height, 3 * width))
        compute(handle)
        return top(handle, count)
    end
end
#@ end
#@ if numbers

"""
    classify(predictor, inputs, count = 5)

The likeliest classes of inputs, a vector of the pairs that `run` takes, the likeliest first, as named tuples
`(index, label, probability)`; `index` counts from 0.
"""
function classify(p::Predictor, inputs::AbstractVector{<:Pair}, count::Integer = 5)
    run(p, inputs...)
    return GC.@preserve p top(p.handle, count)
end
#@ end
#@ if classes

struct RawClass
    index::Int32
    probability::Float32
    label::Ptr{UInt8}
end

function top(handle, count)
    count >= 1 || throw(ArgumentError("count is $count; at least one class can be asked for"))
    found = Vector{RawClass}(undef, min(count, @classes@))
    check(ccall(
        (:@name@_top_k, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Int32, Ptr{RawClass}),
        handle, @scores@, length(found), found))
    named(c) = c.label == C_NULL ? string(c.index) : unsafe_string(c.label)
    return [(index = Int(c.index), label = named(c), probability = c.probability) for c in found]
end
#@ end

opened(p::Predictor) = p.handle == C_NULL ? throw(ArgumentError("the predictor is closed")) : p.handle

compute(handle) = check(ccall((:@name@_run, LIBRARY), Int32, (Ptr{Cvoid},), handle))

function row_major(name, x, type, shape)
    x === nothing && throw(ArgumentError("input $name is missing ($type of $shape)"))
    x isa AbstractArray{type} || throw(ArgumentError("input $name is a $(typeof(x)); the model takes $type of $shape"))
    size(x) == shape && return vec(permutedims(x, ndims(x):-1:1))
    size(x) == (prod(shape),) && return collect(x)
    throw(ArgumentError("input $name is of $(size(x)); the model takes $type of $shape"))
end

function output(handle, index, type, shape)
    data = Vector{type}(undef, prod(shape))
    check(ccall(
        (:@name@_get_output, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Ptr{Cvoid}, Csize_t),
        handle, index - 1, data, sizeof(data)))
    return permutedims(reshape(data, reverse(shape)), length(shape):-1:1)
end

function check(status)
    status == 0 && return nothing
    error(unsafe_string(ccall((:@name@_error_text, LIBRARY), Cstring, (Int32,), status)))
end

end
