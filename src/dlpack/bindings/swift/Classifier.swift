#if canImport(CoreGraphics)
import CoreGraphics

//@ if classes
/// The likeliest classes of a picture, by the network @name@, for images of Apple's frameworks.
///
/// A classifier serves one thread at a time; use it on another than the main one, so that an app stays responsive.
public final class Classifier {
//@ else
/// What is in a picture, by the network @name@, for images of Apple's frameworks.
///
/// A detector serves one thread at a time; use it on another than the main one, so that an app stays responsive.
public final class Detector {
//@ end
    private let predictor: Predictor

//@ if side
    /// Maps the weights, the file @weights@ of the bundle.
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError` where they are missing or damaged.
    public init(weights: String@more_memory@) throws {
        predictor = try Predictor(weights: weights@pass_memory@)
    }
//@ else
//@ if open
    @memory_docs@
//@ end
    /// - Throws: `PredictorError`, as `Predictor.init`.
    public init(@memory_parameter@) throws {
        predictor = try Predictor(@memory_argument@)
    }
//@ end

//@ if classes
    /// The likeliest classes of a picture, the likeliest first.
//@ else
    /// What is in a picture, the surest first, in pixels from its upper left corner.
//@ end
    ///
    /// The pixels are taken as they are stored: a photo's orientation, which a `CGImage` has not, is for the caller to
    /// apply. What is transparent is white.
    /// - Throws: `PredictorError` where there is no memory for the pixels, or too many of them.
//@ if classes
    public func classify(_ image: CGImage, count: Int = 5) throws -> [Classification] {
        let rgb = try pixels(image)
        return try predictor.classify(rgb: rgb, width: image.width, height: image.height, count: count)
    }
//@ else
    public func detect(_ image: CGImage, threshold: Double = @threshold@) throws -> [Detection] {
        let rgb = try pixels(image)
        return try predictor.detect(rgb: rgb, width: image.width, height: image.height, threshold: threshold)
    }
//@ end
}

/// The bytes R, G, B of each pixel in sRGB, from the top row to the bottom one.
private func pixels(_ image: CGImage) throws -> [UInt8] {
    let width = image.width
    let height = image.height
    let layout = CGImageAlphaInfo.noneSkipLast.rawValue | CGBitmapInfo.byteOrder32Big.rawValue
    guard let space = CGColorSpace(name: CGColorSpace.sRGB),
        let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width, space: space,
            bitmapInfo: layout),
        let drawn = context.data
    else {
        throw PredictorError(description: "there is no memory for a picture of \(width) x \(height)")
    }
    let whole = CGRect(x: 0, y: 0, width: width, height: height)
    context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
    context.fill(whole)
    context.draw(image, in: whole)
    let four = drawn.assumingMemoryBound(to: UInt8.self)
    return [UInt8](unsafeUninitializedCapacity: 3 * width * height) { three, count in
        for k in 0..<(width * height) {
            three[3 * k] = four[4 * k]
            three[3 * k + 1] = four[4 * k + 1]
            three[3 * k + 2] = four[4 * k + 2]
        }
        count = 3 * width * height
    }
}
#endif
