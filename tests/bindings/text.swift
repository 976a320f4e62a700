import Writer

let prompt = CommandLine.arguments[1]
let p = try Predictor()

func told(_ text: String) -> String { "\(text.utf8.count) \(text.utf8.reduce(0) { $0 + Int($1) })" }

func joined<T>(_ numbers: [T]) -> String { numbers.map { "\($0)" }.joined(separator: " ") }

func drawn(_ most: Int) -> Generation {
    Generation(maxTokens: most, temperature: 1.2, topK: 50, topP: 0.95, seed: 7)
}

@discardableResult
func refused(_ name: String, _ call: () throws -> Void) -> Error? {
    do {
        try call()
        print("\(name): no error")
        return nil
    } catch {
        print("\(name): \(error)")
        return error
    }
}

struct Own: Error, CustomStringConvertible {
    let description = "of its own"
}

let ids = try p.tokenize(prompt)
let tokens = ids.map { Int64($0) }
print("ids \(joined(ids))")
print("back \(try p.detokenize(ids))")
print("plain \(try p.tokenize(prompt, special: false).count)")
print("tokens \(joined(try p.generate(tokens, drawn(6))))")
var pieces = 0
let text = try p.write(prompt, drawn(20)) { _ in
    pieces += 1
    return false
}
print("text \(told(text)) \(pieces)")
print("first \(told(try p.write(prompt, drawn(20)) { _ in true }))")
_ = try p.write(prompt, drawn(5))
print("kept \(told(try p.write("and", Generation(maxTokens: 4, keep: true))))")
let most = Generation(maxTokens: 99, stop: [])
let fullText = refused("full") { _ = try p.write(prompt, most) } as? FullError
print("written \(told(fullText!.text))")
let fullTokens = refused("full") { _ = try p.generate(tokens, most) } as? FullError
print("made \(fullTokens!.tokens.count)")
refused("long") { _ = try p.tokenize(String(repeating: "a", count: 40000)) }
refused("empty") { _ = try p.generate([]) }
refused("token") { _ = try p.generate([9999]) }
refused("sampler") { _ = try p.write(prompt, Generation(temperature: 1, topP: 2)) }
refused("callback") { _ = try p.write(prompt) { _ in throw Own() } }
refused("nested") { _ = try p.write(prompt) { _ in try p.write(prompt).isEmpty } }
