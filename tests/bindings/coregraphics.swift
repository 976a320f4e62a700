// What Classifier.swift uses of Apple's CoreGraphics, to check its types, and to run it, where there is none.
import Foundation

public typealias CGRect = Foundation.CGRect

public final class CGImage {
    public let width: Int
    public let height: Int
    public let rgb: [UInt8]

    public init(rgb: [UInt8], width: Int, height: Int) {
        (self.rgb, self.width, self.height) = (rgb, width, height)
    }
}

public enum CGImageAlphaInfo: UInt32 {
    case noneSkipLast = 5
}

public struct CGBitmapInfo: OptionSet {
    public static let byteOrder32Big = CGBitmapInfo(rawValue: 4 << 12)
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }
}

public final class CGColorSpace {
    public static let sRGB = "kCGColorSpaceSRGB"

    public init?(name: String) {}
}

public final class CGContext {
    public let data: UnsafeMutableRawPointer?

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        self.data = .allocate(byteCount: height * bytesPerRow, alignment: 16)
    }

    deinit {
        data?.deallocate()
    }

    public func setFillColor(red: Double, green: Double, blue: Double, alpha: Double) {}
    public func fill(_ rect: CGRect) {}

    public func draw(_ image: CGImage, in rect: CGRect) {
        let four = data!.assumingMemoryBound(to: UInt8.self)
        for k in 0..<(image.width * image.height) {
            for c in 0..<3 { four[4 * k + c] = image.rgb[3 * k + c] }
        }
    }
}
