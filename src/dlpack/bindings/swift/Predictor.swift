import C@name@
//@ if resource
import Foundation
//@ end

/// What went wrong, in words.
public struct PredictorError: Error, CustomStringConvertible {
    public let description: String
}

/// What a run gives, row-major.
public struct Outputs: Sendable {
    @fields@
}

//@ if classes
/// A class: its place in the output, its name (the place in digits where it has none) and its probability.
public struct Classification: Sendable {
    public let index: Int
    public let label: String
    public let probability: Float
}

//@ end
//@ if boxes
/// A box in a picture: its class and its name (the place in digits where it has none), its score, its upper left corner
/// and size in pixels.
public struct Detection: Sendable {
    public let index: Int
    public let label: String
    public let score: Float
    public let x: Float
    public let y: Float
    public let width: Float
    public let height: Float
}

//@ end
/// The model @name@. @about@
///
/// A predictor serves one thread at a time; make one for each. Its memory goes with the last reference to it.
public final class Predictor {
    @private@var handle: OpaquePointer?
//@ if shapes

    /// The number of the set of shapes that inputs and outputs have, at first 0:
    @shape_docs@
    public var shape: Int { Int(@name@_shape(handle)) }
//@ end

//@ if side
    /// Maps the weights, the file @weights@ of the bundle.
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError` where they are missing or damaged.
    public init(weights: String@more_memory@) throws {
//@ if open
        try check(@name@_create_from_file_within(&handle, weights, memory))
//@ else
        try check(@name@_create_from_file(&handle, weights))
//@ end
    }
//@ end
//@ if resource
    /// Maps the weights, a resource of this package.
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError` where they are missing or damaged.
    public init(@memory_parameter@) throws {
        guard let weights = Bundle.module.path(forResource: "@name@", ofType: "weights") else {
            throw PredictorError(description: "the resource @name@.weights is missing: the app lacks the package's bundle")
        }
//@ if open
        try check(@name@_create_from_file_within(&handle, weights, memory))
//@ else
        try check(@name@_create_from_file(&handle, weights))
//@ end
    }
//@ end
//@ if linked
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError` without memory, or on a processor that lacks what the code was compiled for.
    public init(@memory_parameter@) throws {
        try check(@name@_create(&handle, nil, @memory@, @name@_weights(), @name@_weights_size()))
    }
//@ end
//@ if inside
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError` without memory, or on a processor that lacks what the code was compiled for.
    public init(@memory_parameter@) throws {
        try check(@name@_create(&handle, nil, @memory@, nil, 0))
    }
//@ end

    deinit {
        @name@_destroy(handle)
    }

//@ if shapes
    /// Chooses a set of shapes for what comes next.
    /// - Throws: `PredictorError` for a number that none has.
    public func setShape(_ number: Int) throws {
        guard (0..<@shape_count@).contains(number) else {
            throw PredictorError(description: "set of shapes \(number): there are @shape_count@, from 0 on")
        }
        try check(@name@_set_shape(handle, Int32(number)))
    }
//@ if open

    @reshapes@

    private func reshape(_ input: Int32, _ extents: [Int], _ what: String) throws {
        let status = @name@_reshape(handle, input, extents.map(Int64.init), Int32(extents.count))
        guard status != 1 else { throw PredictorError(description: "\(what), not \(extents)") }
        try check(status)
    }

    private static func memory(_ input: Int32, _ extents: [Int], _ what: String) throws -> Int {
        let bytes = @name@_memory_size_for(input, extents.map(Int64.init), Int32(extents.count))
        guard bytes > 0 else { throw PredictorError(description: "\(what), not \(extents)") }
        return bytes
    }
//@ end

//@ end
//@ if threads
    /// On how many threads it computes: at first on as many as there are processors, and at most on @threads@.
    public var threads: Int { Int(@name@_threads(handle)) }

    /// - Throws: `PredictorError` for a number below 1 or above @threads@.
    public func setThreads(_ count: Int) throws {
        guard (1...@threads@).contains(count) else {
            throw PredictorError(description: "\(count) threads: from 1 to @threads@ can be chosen")
        }
        try check(@name@_set_threads(handle, Int32(count)))
    }

//@ end
    /// Computes all outputs.
    /// - Parameters:
    @input_docs@
    /// - Throws: `PredictorError` for an input of a wrong length.
    public func run(@parameters@) throws -> Outputs {
        @set_inputs@
        try check(@name@_run(handle))
        return Outputs(@results@)
    }
//@ if pictures
//@ if classes

    /// The likeliest classes of a picture, the likeliest first.
    /// - Parameter rgb: `height` rows of `width` pixels, the bytes R, G, B of each.
    /// - Throws: `PredictorError` where it has not as many bytes as 3 x width x height.
    public func classify(rgb: [UInt8], width: Int, height: Int, count: Int = 5) throws -> [Classification] {
        try runPicture(rgb, width, height)
        return try top(count)
    }
//@ end
//@ if boxes

    /// What is in a picture, the surest first.
    /// - Parameter rgb: `height` rows of `width` pixels, the bytes R, G, B of each.
    /// - Parameter threshold: The least score.
    /// - Throws: `PredictorError` where it has not as many bytes as 3 x width x height.
    public func detect(
        rgb: [UInt8], width: Int, height: Int, threshold: Double = @threshold@
    ) throws -> [Detection] {
        try runPicture(rgb, width, height)
        var found = [@name@_detection](repeating: @name@_detection(), count: @most@)
        var count: Int32 = 0
        try check(@name@_detections(handle, Int32(width), Int32(height), threshold, @most@, &found, &count))
        return found.prefix(Int(count)).map {
            Detection(
                index: Int($0.index), label: label($0.label, $0.index), score: $0.score,
                x: $0.x, y: $0.y, width: $0.width, height: $0.height)
        }
    }
//@ end

    private func runPicture(_ rgb: [UInt8], _ width: Int, _ height: Int) throws {
        let limit = 1 << 20
        guard (1...limit).contains(width), (1...limit).contains(height), rgb.count == 3 * width * height else {
            throw PredictorError(description: "the picture has \(rgb.count) bytes; 3 x \(width) x \(height) are needed")
        }
        try check(@name@_preprocess_rgb(handle, rgb, Int32(width), Int32(height), 3 * width))
        try check(@name@_run(handle))
    }
//@ end
//@ if numbers

    /// The likeliest classes of the inputs that `run` takes, the likeliest first.
    public func classify(@parameters@, count: Int = 5) throws -> [Classification] {
        _ = try run(@arguments@)
        return try top(count)
    }
//@ end
//@ if classes

    private func top(_ count: Int) throws -> [Classification] {
        var found = [@name@_class](repeating: @name@_class(), count: max(0, min(count, @class_count@)))
        try check(@name@_top_k(handle, @scores@, Int32(found.count), &found))
        return found.map {
            Classification(index: Int($0.index), label: label($0.label, $0.index), probability: $0.probability)
        }
    }
//@ end

    private func set<T>(_ index: Int32, _ data: [T], _ size: Int, _ what: String) throws {
        guard data.count == size else {
            throw PredictorError(description: "\(what) has \(data.count) elements; \(size) are needed")
        }
        if size == 0 { return }
        try data.withUnsafeBytes { try check(@name@_set_input(handle, index, $0.baseAddress, $0.count)) }
    }

    private func get<T>(_ index: Int32, _ zeros: [T]) throws -> [T] {
        if zeros.isEmpty { return zeros }
        var data = zeros
        try data.withUnsafeMutableBytes { try check(@name@_get_output(handle, index, $0.baseAddress, $0.count)) }
        return data
    }
}

//@ if lists
private func label(_ name: UnsafePointer<CChar>?, _ index: Int32) -> String {
    name.map { String(cString: $0) } ?? String(index)
}

//@ end
@private@func check(_ status: Int32) throws {
    if status != 0 {
        throw PredictorError(description: String(cString: @name@_error_text(status)))
    }
}
