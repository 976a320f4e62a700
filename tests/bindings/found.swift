// Uses the package Found; what it prints is read by test_bindings_sets.py.
import Foundation
import Found

func fails(_ name: String, _ action: () throws -> Void) {
    do {
        try action()
        print("\(name): no error")
    } catch {
        print("\(name): \(error)")
    }
}

let picture = [UInt8](try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])))
let first = [Float](repeating: 1.5, count: 192)
let p = try Predictor()
try p.setThreads(2)
try p.reshape(image: [1, 3, 8, 8])
var twice = try p.run(image: first).twice
print("set", p.shape, twice.count, twice[191])
try p.setShape(0)
twice = try p.run(image: [Float](repeating: 2.5, count: 108)).twice
print("set", p.shape, twice.count, twice[107])
for d in try p.detect(rgb: picture, width: 7, height: 5) {
    print("found", d.index, d.label, d.score, d.x, d.y, d.width, d.height)
}
print("sure", try p.detect(rgb: picture, width: 7, height: 5, threshold: 2).count)
let small = try Predictor(memory: Predictor.memoryFor(image: [1, 3, 8, 8]))
try small.reshape(image: [1, 3, 8, 8])
print("small", try small.run(image: first).twice[191])
fails("memory") { try small.reshape(image: [1, 3, 206, 206]) }
fails("memory") { try small.setShape(10200) }
fails("largest") { _ = try Predictor.memoryFor(image: [1, 3, 8, 7]) }
fails("bounds") { try p.reshape(image: [1, 3, 8, 208]) }
fails("step") { try p.reshape(image: [1, 3, 8, 7]) }
fails("length") { _ = try p.run(image: first) }
fails("picture") { _ = try p.detect(rgb: picture, width: 8, height: 5) }
fails("shape") { try p.setShape(10201) }
fails("threads") { try p.setThreads(3) }
