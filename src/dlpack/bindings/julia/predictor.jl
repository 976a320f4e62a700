"""
The model @name@. @about@

Inputs of `run`, by name:

@input_docs@

Outputs:

@output_docs@

An array has the tensor's dimensions (`x[n, c, h, w]`); a vector has its elements row-major, the last dimension fastest.
"""
module @Name@

export @exports@

const LIBRARY = joinpath(@__DIR__, "..", "lib", "@library@")
const INPUTS = [
    @inputs@
]
const OUTPUTS = [
    @outputs@
]

"""
#@ if side
    Predictor(weights@largest_parameter@)

Maps the weights, the file @weights@ of the bundle, of that path.
#@ else
    Predictor(@largest_parameter@)
#@ end

A compiled model. It serves one task at a time; make one for each. `close` gives its memory back, else the garbage
collector does.
#@ if open
It takes memory for inputs of any size, or of no more than the shapes in `largest`: `["image" => (1, 3, 64, 64)]`.
#@ end
"""
mutable struct Predictor
    handle::Ptr{Cvoid}

#@ if side
    function Predictor(weights::AbstractString@largest_parameter@)
        made = Ref{Ptr{Cvoid}}(C_NULL)
#@ if open
        check(ccall(
            (:@name@_create_from_file_within, LIBRARY), Int32, (Ref{Ptr{Cvoid}}, Cstring, Csize_t),
            made, weights, memory_for(largest)))
#@ else
        check(ccall((:@name@_create_from_file, LIBRARY), Int32, (Ref{Ptr{Cvoid}}, Cstring), made, weights))
#@ end
#@ else
    function Predictor(@largest_parameter@)
        made = Ref{Ptr{Cvoid}}(C_NULL)
        check(ccall(
            (:@name@_create, LIBRARY), Int32, (Ref{Ptr{Cvoid}}, Ptr{Cvoid}, Csize_t, Ptr{Cvoid}, Csize_t),
            made, C_NULL, @memory@, C_NULL, 0))
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
    unknown = setdiff(keys(given), first.(INPUTS))
    isempty(unknown) || throw(ArgumentError("unknown input $(first(unknown))"))
#@ if shapes
    dims = [(input_shape(handle, i - 1)..., more...) for (i, (_, (_, more))) in enumerate(INPUTS)]
    data = [row_major(name, get(given, name, nothing), type, d) for ((name, (type, _)), d) in zip(INPUTS, dims)]
#@ else
    data = [row_major(name, get(given, name, nothing), type, dims) for (name, (type, dims)) in INPUTS]
#@ end
    GC.@preserve p begin
        for (index, x) in enumerate(data)
            check(ccall(
                (:@name@_set_input, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Ptr{Cvoid}, Csize_t),
                handle, index - 1, x, sizeof(x)))
        end
        compute(handle)
#@ if shapes
        dims = [(output_shape(handle, i - 1)..., more...) for (i, (_, (_, more))) in enumerate(OUTPUTS)]
        return Dict(name => output(handle, i, type, dims[i]) for (i, (name, (type, _))) in enumerate(OUTPUTS))
#@ else
        return Dict(name => output(handle, i, type, dims) for (i, (name, (type, dims))) in enumerate(OUTPUTS))
#@ end
    end
end
#@ if shapes

"""
    shape(predictor)

The number of the set of shapes that inputs and outputs have, at first 0.
"""
shape(p::Predictor) = GC.@preserve p shape(opened(p))
shape(handle::Ptr{Cvoid}) = Int(ccall((:@name@_shape, LIBRARY), Int32, (Ptr{Cvoid},), handle))

"""
    set_shape(predictor, number)

Chooses a set of shapes for what comes next; throws `ArgumentError` for a number that none has.

@shape_docs@
"""
function set_shape(p::Predictor, number::Integer)
    handle = opened(p)
    0 <= number < @shape_count@ || throw(ArgumentError("set of shapes $number: there are @shape_count@, from 0 on"))
    GC.@preserve p check(ccall((:@name@_set_shape, LIBRARY), Int32, (Ptr{Cvoid}, Int32), handle, number))
end
#@ if open

"""
    set_shape_of(predictor, name, extents)

Gives an input another shape, as in `set_shape_of(p, "image", (1, 3, 64, 64))`, and all else what goes with it; throws
`ArgumentError` for one that it cannot have.
"""
function set_shape_of(p::Predictor, name::AbstractString, extents)
    handle, index = opened(p), index_of(name)
    status = GC.@preserve p ccall(
        (:@name@_reshape, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Ptr{Int64}, Int32),
        handle, index - 1, collect(Int64, extents), length(extents))
    status == 1 && throw(misfit(index, extents))
    return check(status)
end

function index_of(name)
    index = findfirst(==(name), first.(INPUTS))
    return index === nothing ? throw(ArgumentError("unknown input $name")) : index
end

function misfit(index, extents)
    name, (_, _, shapes) = INPUTS[index]
    return ArgumentError("input $name can be $shapes, not $(join(extents, "x"))")
end

"The bytes of a predictor for no more than these shapes; 0, which stands for all, without any."
function memory_for(largest)
    sizes = map(collect(largest)) do (name, extents)
        index = index_of(name)
        bytes = ccall(
            (:@name@_memory_size_for, LIBRARY), Csize_t, (Int32, Ptr{Int64}, Int32),
            index - 1, collect(Int64, extents), length(extents))
        return bytes == 0 ? throw(misfit(index, extents)) : bytes
    end
    return reduce(max, sizes; init = Csize_t(0))
end
#@ end

struct RawTensor
    name::Ptr{UInt8}
    dtype::Ptr{UInt8}
    shape::Ptr{Int64}
    rank::Int32
    bytes::Csize_t
    scale::Float32
    zero_point::Int32
end

function input_shape(handle, index)
    t = unsafe_load(ccall((:@name@_input_of, LIBRARY), Ptr{RawTensor}, (Ptr{Cvoid}, Int32), handle, index))
    return Tuple(unsafe_load(t.shape, k) for k in 1:t.rank)
end

function output_shape(handle, index)
    t = unsafe_load(ccall((:@name@_output_of, LIBRARY), Ptr{RawTensor}, (Ptr{Cvoid}, Int32), handle, index))
    return Tuple(unsafe_load(t.shape, k) for k in 1:t.rank)
end
#@ end
#@ if threads

"""
    set_threads(predictor, count)

Computes on this many threads from now on, at most @threads@; at first on as many as there are processors.
"""
function set_threads(p::Predictor, count::Integer)
    handle = opened(p)
    1 <= count <= @threads@ || throw(ArgumentError("$count threads: from 1 to @threads@ can be chosen"))
    GC.@preserve p check(ccall((:@name@_set_threads, LIBRARY), Int32, (Ptr{Cvoid}, Int32), handle, count))
end
#@ end
#@ if pictures

"Runs on a picture; its width and height."
function run_picture(handle, picture)
    height, width, channels = size(picture)
    channels == 3 && !isempty(picture) || throw(ArgumentError("a picture is height x width x 3; this is $(size(picture))"))
    rgb = vec(permutedims(picture, (3, 2, 1)))
    check(ccall(
        (:@name@_preprocess_rgb, LIBRARY), Int32, (Ptr{Cvoid}, Ptr{UInt8}, Int32, Int32, Cptrdiff_t),
        handle, rgb, width, height, 3 * width))
    compute(handle)
    return width, height
end
#@ if classes

"""
    classify(predictor, picture; count = 5)

The likeliest classes of a picture, the likeliest first, as named tuples `(index, label, probability)`; `index` counts
from 0. The picture is an array of height x width x 3 bytes: red, green, blue.
"""
function classify(p::Predictor, picture::AbstractArray{UInt8,3}; count::Integer = 5)
    handle = opened(p)
    GC.@preserve p begin
        run_picture(handle, picture)
        return top(handle, count)
    end
end
#@ end
#@ if boxes

struct RawDetection
    index::Int32
    numbers::NTuple{5,Float32}
    label::Ptr{UInt8}
end

"""
    detect(predictor, picture; threshold = @threshold@)

What is in a picture, the surest first, as named tuples `(index, label, score, x, y, width, height)`: its class, which
counts from 0, its score, which is at least `threshold`, its upper left corner and size in pixels. The picture is an
array of height x width x 3 bytes: red, green, blue.
"""
function detect(p::Predictor, picture::AbstractArray{UInt8,3}; threshold::Real = @threshold@)
    handle = opened(p)
    found, count = Vector{RawDetection}(undef, @most@), Ref{Int32}(0)
    GC.@preserve p begin
        width, height = run_picture(handle, picture)
        check(ccall(
            (:@name@_detections, LIBRARY), Int32,
            (Ptr{Cvoid}, Int32, Int32, Cdouble, Int32, Ptr{RawDetection}, Ref{Int32}),
            handle, width, height, threshold, length(found), found, count))
    end
    names = (:score, :x, :y, :width, :height)
    return [(index = Int(d.index), label = named(d), NamedTuple{names}(d.numbers)...) for d in found[1:count[]]]
end
#@ end
#@ end
#@ if numbers

"""
    classify(predictor, "name" => array, ...; count = 5)

The likeliest classes of the inputs that `run` takes, the likeliest first, as named tuples
`(index, label, probability)`; `index` counts from 0.
"""
function classify(p::Predictor, inputs::Pair...; count::Integer = 5)
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
    found = Vector{RawClass}(undef, min(count, @class_count@))
    check(ccall(
        (:@name@_top_k, LIBRARY), Int32, (Ptr{Cvoid}, Int32, Int32, Ptr{RawClass}),
        handle, @scores@, length(found), found))
    return [(index = Int(c.index), label = named(c), probability = c.probability) for c in found]
end
#@ end

#@ if lists
named(found) = found.label == C_NULL ? string(found.index) : unsafe_string(found.label)

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
#@ if texts

include("text.jl")
#@ end

end
