import CoreGraphics
import Foundation
import ImageIO
import Model

/// A photo as the model saw it, and what it saw.
struct Seen {
    let picture: CGImage
    let classes: [Classification]
}

struct UnreadablePhoto: Error, CustomStringConvertible {
    let description = "This photo cannot be decoded."
}

/// An actor: one photo at a time, and none on the main thread.
actor PhotoClassifier {
    private var classifier: Classifier?

    func classify(photo: Data) throws -> Seen {
        let model = try classifier ?? Classifier()
        classifier = model
        let picture = try decoded(photo)
        return Seen(picture: picture, classes: try model.classify(picture))
    }

    /// The photo upright, as its metadata says, and at most 1024 pixels wide and high: models use fewer.
    private func decoded(_ photo: Data) throws -> CGImage {
        let options: [CFString: Any] = [
            kCGImageSourceCreateThumbnailFromImageAlways: true,
            kCGImageSourceCreateThumbnailWithTransform: true,
            kCGImageSourceThumbnailMaxPixelSize: 1024,
        ]
        guard let source = CGImageSourceCreateWithData(photo as CFData, nil),
            let picture = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary)
        else { throw UnreadablePhoto() }
        return picture
    }
}
