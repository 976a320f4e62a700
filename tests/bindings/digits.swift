// Uses the package Digits; what it prints is read by test_bindings.py.
import Digits
import Foundation

func fails(_ name: String, _ action: () throws -> Void) {
    do {
        try action()
        print("\(name): no error")
    } catch {
        print("\(name): \(error)")
    }
}

let raw = [UInt8](try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])))
let picture = [UInt8](try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[2])))
let image = raw.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
let predictor = try Predictor()
for p in try predictor.run(image: image).probability { print("run", p) }
for c in try predictor.classify(rgb: picture, width: 8, height: 8, count: 3) {
    print("class", c.index, c.label, c.probability)
}
fails("length") { _ = try predictor.run(image: [1, 2, 3]) }
fails("picture") { _ = try predictor.classify(rgb: picture, width: 9, height: 8) }
fails("count") { _ = try predictor.classify(rgb: picture, width: 8, height: 8, count: 0) }
