import C@name@

private let tooLong = Int32(@NAME@_TOO_LONG)
//@ if decodes
private let full = Int32(@NAME@_FULL)
private let refused = Int32(@NAME@_BAD_ARGUMENT)
//@ end

//@ if decodes
/// The text would get longer than a predictor keeps.
public struct FullError: Error, CustomStringConvertible {
    /// The tokens that `generate` wrote before.
    public var tokens: [Int64] = []
    /// What `write` wrote before.
    public var text = ""
    public var description: String { "@full@" }
}

/// How a text is written.
public struct Generation: Sendable {
    /// The most tokens to write.
    public var maxTokens: Int
    /// 0: the likeliest token each time. Else a token's chance is softmax(scores / temperature).
    public var temperature: Float
    /// Only the so many likeliest are chosen from; 0: all.
    public var topK: Int
    /// Of those only the likeliest that together have at least this share.
    public var topP: Float
    /// The same seed gives the same text.
    public var seed: UInt64
    /// Tokens that end the text and are not given; nil: none, or in `write` those that the model names.
    public var stop: [Int64]?
    /// Whether the prompt goes on from the text so far, that the predictor has read and written.
    public var keep: Bool

    public init(
        maxTokens: Int = 128, temperature: Float = 0, topK: Int = 0, topP: Float = 1, seed: UInt64 = 0,
        stop: [Int64]? = nil, keep: Bool = false
    ) {
        (self.maxTokens, self.temperature, self.topK, self.topP) = (maxTokens, temperature, topK, topP)
        (self.seed, self.stop, self.keep) = (seed, stop, keep)
    }
}

/// What C calls with each token or piece of text. An error there ends the text, and is thrown when C has returned.
private final class Taker<Value> {
    private let take: (Value) throws -> Bool
    private(set) var thrown: Error?

    init(_ take: @escaping (Value) throws -> Bool) {
        self.take = take
    }

    func ends(_ value: Value) -> Int32 {
        do {
            return try take(value) ? 1 : 0
        } catch {
            thrown = error
            return 1
        }
    }
}

//@ end
extension Predictor {
//@ if tokenizer
    /// The ids of a text; `special`: with the tokens around it.
    /// - Throws: `PredictorError` for a text that is too long.
    public func tokenize(_ text: String, special: Bool = true) throws -> [Int32] {
        let utf8 = Array(text.utf8CString)
        var ids = [Int32](repeating: 0, count: utf8.count + 16)
        while true {
            var count = 0
            let status = @name@_tokenize(handle, utf8, utf8.count - 1, special ? 1 : 0, &ids, ids.count, &count)
            if status != tooLong || count == 0 {
                try checkText(status)
                return Array(ids.prefix(count))
            }
            ids = [Int32](repeating: 0, count: count)
        }
    }

    /// The text of ids; `special`: with special tokens. Ids without a token are left out.
    public func detokenize(_ ids: [Int32], special: Bool = false) throws -> String {
        var text = [CChar](repeating: 0, count: 16 * ids.count + 1)
        while true {
            var bytes = 0
            let status = @name@_detokenize(handle, ids, ids.count, special ? 1 : 0, &text, text.count, &bytes)
            if status != tooLong {
                try checkText(status)
                return string(text.prefix(bytes))
            }
            text = [CChar](repeating: 0, count: bytes)
        }
    }

//@ end
//@ if embeds
    /// The embedding of a text, @embedding@ numbers; `cut`: of the beginning of one that is too long.
    /// - Throws: `PredictorError` for a text that is too long and not to be cut.
    public func embed(_ text: String, cut: Bool = false) throws -> [Float] {
        let utf8 = Array(text.utf8CString)
        var embedding = [Float](repeating: 0, count: @embedding@)
        let status = @name@_embed(handle, utf8, utf8.count - 1, cut ? 1 : 0, &embedding)
        if status == tooLong && utf8.count - 1 <= @text_bytes@ {
            throw PredictorError(description: "@too_many_tokens@")
        }
        try checkText(status)
        return embedding
    }

//@ end
//@ if decodes
    /// The tokens that the model writes after a prompt. `onToken` is called with each; true ends the text.
    /// - Throws: `PredictorError` for a prompt that is empty or has a token that is none, `FullError` where the text gets
    ///   too long.
    public func generate(
        _ prompt: [Int64], _ how: Generation = Generation(), onToken: @escaping (Int64) throws -> Bool = { _ in false }
    ) throws -> [Int64] {
        var tokens: [Int64] = []
        let taker = Taker<Int64> {
            tokens.append($0)
            return try onToken($0)
        }
        let call: @name@_on_token = { Unmanaged<Taker<Int64>>.fromOpaque($0!).takeUnretainedValue().ends($1) }
        let stop = how.stop ?? []
        let status = try writing(how, taker) { handle, sampler, user in
            @name@_generate(
                handle, prompt, prompt.count, how.maxTokens, &sampler, stop, stop.count, call, user, nil, nil)
        }
        if status == full { throw FullError(tokens: tokens) }
        try checkText(status)
        return tokens
    }

//@ end
//@ if writes
    /// What the model writes after a prompt. `onText` is called with each piece of it; true ends the text.
    /// - Throws: `PredictorError` for a prompt that is empty or too long, `FullError` where the text gets too long.
    public func write(
        _ prompt: String, _ how: Generation = Generation(), onText: @escaping (String) throws -> Bool = { _ in false }
    ) throws -> String {
        var text = ""
        let taker = Taker<String> {
            text += $0
            return try onText($0)
        }
        let call: @name@_on_text = { user, text, bytes in
            let piece = string(UnsafeBufferPointer(start: text, count: bytes))
            return Unmanaged<Taker<String>>.fromOpaque(user!).takeUnretainedValue().ends(piece)
        }
        let utf8 = Array(prompt.utf8CString)
        let status = try writing(how, taker) { handle, sampler, user in
            @name@_write(
                handle, utf8, utf8.count - 1, how.maxTokens, &sampler, how.stop, how.stop?.count ?? 0, call, user, nil, 0,
                nil)
        }
        if status == full { throw FullError(text: text) }
        try checkText(status)
        return text
    }

//@ end
//@ if decodes
    /// Calls what writes a text. The predictor has no handle meanwhile: what is called for the pieces cannot use it.
    private func writing<Value>(
        _ how: Generation, _ taker: Taker<Value>,
        _ call: (OpaquePointer, inout @name@_sampler, UnsafeMutableRawPointer) -> Int32
    ) throws -> Int32 {
        guard let own = handle else { throw PredictorError(description: "the predictor is writing") }
        guard how.maxTokens >= 0, let topK = Int32(exactly: how.topK) else {
            throw PredictorError(description: "@refused@")
        }
        if !how.keep { try checkText(@name@_rewind(own, 0)) }
        handle = nil
        defer { handle = own }
        var sampler = @name@_sampler(temperature: how.temperature, top_k: topK, top_p: how.topP, seed: how.seed)
        let status = withExtendedLifetime(taker) {
            call(own, &sampler, Unmanaged.passUnretained(taker).toOpaque())
        }
        if let thrown = taker.thrown { throw thrown }
        return status
    }
//@ end
}

private func string<Bytes: Collection>(_ utf8: Bytes) -> String where Bytes.Element == CChar {
    String(decoding: utf8.lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

private func checkText(_ status: Int32) throws {
    switch status {
    case tooLong: throw PredictorError(description: "@too_long@")
//@ if decodes
    case refused: throw PredictorError(description: "@refused@")
//@ end
    default: try check(status)
    }
}
