// Texts: what the predictor does with them.
part of '../@name@.dart';

const _tooLong = 9;
//@ if decodes
const _refused = 1;
const _full = 10;

/// The text would get longer than a predictor keeps: [tokens] or [text] is what was written before.
final class FullException implements Exception {
  FullException._(this.tokens, this.text);
  final List<int> tokens;
  final String text;

  @override
  String toString() => '@full@';
}

/// How a text is written: [maxTokens] are the most tokens to write. With [temperature] 0 each is the likeliest, else its
/// chance is softmax(scores / temperature), among the [topK] likeliest (0: all), and of those among the likeliest that
/// together have at least the share [topP]. The same [seed] gives the same text. Tokens in [stop] end it (null: none, or
/// in [TextPredictor.write] those that the model names). [keep]: the prompt goes on from the text so far.
typedef Generation = ({
  int maxTokens,
  double temperature,
  int topK,
  double topP,
  int seed,
  List<int>? stop,
  bool keep,
});

/// A [Generation] with what is not given as usual: the likeliest 128 tokens.
Generation generation({
  int maxTokens = 128,
  double temperature = 0,
  int topK = 0,
  double topP = 1,
  int seed = 0,
  List<int>? stop,
  bool keep = false,
}) =>
    (maxTokens: maxTokens, temperature: temperature, topK: topK, topP: topP, seed: seed, stop: stop, keep: keep);

final class _Sampler extends Struct {
  @Float()
  external double temperature;
  @Int32()
  external int topK;
  @Float()
  external double topP;
  @Uint64()
  external int seed;
}

typedef _OnToken = Int32 Function(Pointer<Void>, Int64);
//@ end
//@ if writes
typedef _OnText = Int32 Function(Pointer<Void>, Pointer<Uint8>, Size);
//@ end

void _checkText(int status) {
  if (status == _tooLong) throw ArgumentError('@too_long@');
//@ if decodes
  if (status == _refused) throw ArgumentError('@refused@');
//@ end
  _check(status);
}

/// What a predictor does with texts.
extension TextPredictor on Predictor {
//@ if tokenizer
  /// The ids of a text; [special]: with the tokens around it. Throws [ArgumentError] for a text that is too long.
  List<int> tokenize(String text, {bool special = true}) => _onText(text, (arena, data, length) {
        final count = arena<Size>()..value = length + 16;
        while (true) {
          final capacity = count.value;
          final ids = arena<Int32>(capacity);
          final status = _tokenize(_handle, data.cast(), length, special ? 1 : 0, ids, capacity, count);
          if (status == _tooLong && count.value > 0) continue;
          _checkText(status);
          return List.of(ids.asTypedList(count.value));
        }
      });

  /// The text of ids; [special]: with special tokens. Ids without a token are left out.
  String detokenize(List<int> ids, {bool special = false}) {
    _open();
    return using((arena) {
      final given = arena<Int32>(ids.length + 1)..asTypedList(ids.length).setAll(0, ids);
      final bytes = arena<Size>()..value = 16 * ids.length + 1;
      while (true) {
        final capacity = bytes.value;
        final text = arena<Uint8>(capacity);
        final status = _detokenize(_handle, given, ids.length, special ? 1 : 0, text.cast(), capacity, bytes);
        if (status == _tooLong) continue;
        _checkText(status);
        return utf8.decode(text.asTypedList(bytes.value));
      }
    });
  }

//@ end
//@ if embeds
  /// The embedding of a text, @embedding@ numbers; [cut]: of the beginning of one that is too long, for which
  /// [ArgumentError] is thrown otherwise.
  Float32List embed(String text, {bool cut = false}) => _onText(text, (arena, data, length) {
        final embedding = arena<Float>(@embedding@);
        final status = _embed(_handle, data.cast(), length, cut ? 1 : 0, embedding);
        if (status == _tooLong && length <= @text_bytes@) {
          throw ArgumentError('@too_many_tokens@');
        }
        _checkText(status);
        return Float32List.fromList(embedding.asTypedList(@embedding@));
      });

//@ end
//@ if decodes
  /// The tokens that the model writes after a prompt. [onToken] is called with each; true ends the text. Throws
  /// [ArgumentError] for a prompt that is empty or has a token that is none, [FullException] where the text gets too long.
  List<int> generate(List<int> prompt, {Generation? how, bool Function(int)? onToken}) {
    final tokens = <int>[];
    final status = _written(how ?? generation(), (ends) {
      int take(Pointer<Void> _, int token) {
        tokens.add(token);
        return ends(() => onToken?.call(token) ?? false);
      }

      return NativeCallable<_OnToken>.isolateLocal(take, exceptionalReturn: 1);
    }, (arena, handle, most, sampler, stop, stops, taker) {
      final given = arena<Int64>(prompt.length + 1)..asTypedList(prompt.length).setAll(0, prompt);
      return _generate(handle, given, prompt.length, most, sampler, stop, stops, taker.cast(), nullptr, nullptr, nullptr);
    });
    if (status == _full) throw FullException._(tokens, '');
    _checkText(status);
    return tokens;
  }

//@ end
//@ if writes
  /// What the model writes after a prompt. [onText] is called with each piece of it; true ends the text. Throws
  /// [ArgumentError] for a prompt that is empty or too long, [FullException] where the text gets too long.
  String write(String prompt, {Generation? how, bool Function(String)? onText}) {
    final text = StringBuffer();
    final status = _written(how ?? generation(), (ends) {
      int take(Pointer<Void> _, Pointer<Uint8> data, int bytes) {
        final piece = utf8.decode(data.asTypedList(bytes));
        text.write(piece);
        return ends(() => onText?.call(piece) ?? false);
      }

      return NativeCallable<_OnText>.isolateLocal(take, exceptionalReturn: 1);
    }, (arena, handle, most, sampler, stop, stops, taker) {
      final given = utf8.encode(prompt);
      final data = arena<Uint8>(given.length + 1)..asTypedList(given.length).setAll(0, given);
      return _write(handle, data.cast(), given.length, most, sampler, stop, stops, taker.cast(), nullptr, nullptr, 0,
          nullptr);
    });
    if (status == _full) throw FullException._(const [], '$text');
    _checkText(status);
    return '$text';
  }

//@ end
//@ if decodes
  // Calls what writes a text. The predictor has no handle meanwhile, so that nothing that is called can free it; what
  // that throws ends the text, and is thrown again when C has returned.
  int _written(
      Generation how,
      NativeCallable Function(int Function(bool Function())) callable,
      int Function(Arena, Pointer<Void>, int, Pointer<_Sampler>, Pointer<Int64>, int, Pointer) call) {
    _open();
    if (how.maxTokens < 0) throw ArgumentError('${how.maxTokens} is no number of tokens');
    (Object, StackTrace)? thrown;
    final taker = callable((ask) {
      try {
        return ask() ? 1 : 0;
      } catch (error, trace) {
        thrown = (error, trace);
        return 1;
      }
    });
    if (!how.keep) _check(_rewind(_handle, 0));
    final handle = _handle;
    _handle = nullptr;
    try {
      final status = using((arena) {
        final sampler = arena<_Sampler>();
        sampler.ref
          ..temperature = how.temperature
          ..topK = how.topK
          ..topP = how.topP
          ..seed = how.seed;
        final stop = how.stop;
        final stops = stop == null ? nullptr.cast<Int64>() : arena<Int64>(stop.length + 1);
        if (stop != null) stops.asTypedList(stop.length).setAll(0, stop);
        return call(arena, handle, how.maxTokens, sampler, stops, stop?.length ?? 0, taker.nativeFunction);
      });
      if (thrown case (final error, final trace)) Error.throwWithStackTrace(error, trace);
      return status;
    } finally {
      _handle = handle;
      taker.close();
    }
  }
//@ end
//@ if tokenizer

  T _onText<T>(String text, T Function(Arena, Pointer<Uint8>, int) call) {
    _open();
    return using((arena) {
      final given = utf8.encode(text);
      return call(arena, arena<Uint8>(given.length + 1)..asTypedList(given.length).setAll(0, given), given.length);
    });
  }
//@ end
}
