/// The model @name@. @about@
library;

//@ if texts
import 'dart:convert';
//@ end
import 'dart:ffi';
import 'dart:typed_data';

import 'package:ffi/ffi.dart';

part 'src/native.dart';
//@ if texts
part 'src/text.dart';
//@ end

/// Where the shared library @library@ is: set it before the first [Predictor] unless the system finds it by name.
String libraryPath = '@library@';

/// What a run gives, row-major.
final class Outputs {
//@ if shapes
  Outputs._(Pointer<Void> handle)
      : @make_fields@;

//@ end
  @fields@
}

//@ if classes
/// A class: its place in the output, its name (the place in digits where it has none) and its probability.
typedef Classification = ({int index, String label, double probability});

//@ end
//@ if boxes
/// A box in a picture: its class and its name (the place in digits where it has none), its score, its upper left corner
/// and size in pixels.
typedef Detection = ({int index, String label, double score, double x, double y, double width, double height});

//@ end
/// A compiled model. [close] gives its memory back, else the garbage collector does.
final class Predictor implements Finalizable {
  static final _finalizer = NativeFinalizer(_library.lookup('@name@_destroy'));

  Pointer<Void> _handle = nullptr;

//@ if side
  /// Maps the weights, the file @weights@ of the bundle, of that path. Throws [StateError] where they are damaged.
//@ if open
  @memory_docs@
  Predictor(String weights, {int memory = 0}) {
//@ else
  Predictor(String weights) {
//@ end
    using((arena) {
      final made = arena<Pointer<Void>>();
//@ if open
      _check(_createFromFileWithin(made, weights.toNativeUtf8(allocator: arena), memory));
//@ else
      _check(_createFromFile(made, weights.toNativeUtf8(allocator: arena)));
//@ end
      _handle = made.value;
    });
//@ else
  /// Throws [StateError] without memory, or on a processor that lacks what the code was compiled for.
//@ if open
  @memory_docs@
  Predictor({int memory = 0}) {
//@ else
  Predictor() {
//@ end
    using((arena) {
      final made = arena<Pointer<Void>>();
      _check(_create(made, nullptr, @memory@, nullptr, 0));
      _handle = made.value;
    });
//@ end
    _finalizer.attach(this, _handle, detach: this);
  }

//@ if shapes
  /// The number of the set of shapes that inputs and outputs have, at first 0:
  ///
  @shape_docs@
  ///
  /// Setting it chooses another for what comes next; throws [ArgumentError] for a number that none has.
  int get shape {
    _open();
    return _shape(_handle);
  }

  set shape(int number) {
    _open();
    if (number < 0 || number >= @shape_count@) {
      throw ArgumentError('set of shapes $number: there are @shape_count@, from 0 on');
    }
    _check(_setShape(_handle, number));
  }
//@ if open

  @reshapes@

  void _chooseExtents(int input, List<int> extents, String what) {
    _open();
    using((arena) {
      final status = _reshape(_handle, input, _extents(arena, extents), extents.length);
      if (status == 1) throw ArgumentError('$what, not ${extents.join('x')}');
      _check(status);
    });
  }

  static int _memoryFor(int input, List<int> extents, String what) => using((arena) {
        final bytes = _memorySizeFor(input, _extents(arena, extents), extents.length);
        return bytes > 0 ? bytes : throw ArgumentError('$what, not ${extents.join('x')}');
      });

  static Pointer<Int64> _extents(Arena arena, List<int> extents) =>
      arena<Int64>(extents.length + 1)..asTypedList(extents.length).setAll(0, extents);
//@ end

//@ end
//@ if threads
  /// Computes on this many threads from now on, at most @threads@; at first on as many as there are processors.
  void setThreads(int count) {
    _open();
    if (count < 1 || count > @threads@) throw ArgumentError('$count threads: from 1 to @threads@ can be chosen');
    _check(_setThreads(_handle, count));
  }

//@ end
  /// Computes all outputs. Throws [ArgumentError] for an input of a wrong length, [StateError] after [close].
  ///
  @input_docs@
  Outputs run(@parameters@) {
    _open();
    @set_inputs@
    _check(_run(_handle));
    final outputs = Outputs@new@;
    @get_outputs@
    return outputs;
  }
//@ if pictures
//@ if classes

  /// The [count] likeliest classes of a picture, the likeliest first: [height] rows of [width] pixels R, G, B.
  List<Classification> classify(Uint8List rgb, int width, int height, {int count = 5}) {
    _runPicture(rgb, width, height);
    return _top(count);
  }
//@ end
//@ if boxes

  /// What is in a picture, the surest first, with a score of at least [threshold]: [height] rows of [width] pixels R, G,
  /// B.
  List<Detection> detect(Uint8List rgb, int width, int height, {double threshold = @threshold@}) {
    _runPicture(rgb, width, height);
    return using((arena) {
      final found = arena<_RawDetection>(@most@);
      final count = arena<Int32>();
      _check(_detections(_handle, width, height, threshold, @most@, found, count));
      return [
        for (final d in [for (var i = 0; i < count.value; ++i) found[i]])
          (
            index: d.index,
            label: _label(d.label, d.index),
            score: d.score,
            x: d.x,
            y: d.y,
            width: d.width,
            height: d.height,
          ),
      ];
    });
  }
//@ end

  void _runPicture(Uint8List rgb, int width, int height) {
    _open();
    if (width < 1 || height < 1 || rgb.length != 3 * width * height) {
      throw ArgumentError('the picture has ${rgb.length} bytes; 3 x $width x $height are needed');
    }
    using((arena) {
      final pixels = arena<Uint8>(rgb.length)..asTypedList(rgb.length).setAll(0, rgb);
      _check(_preprocessRgb(_handle, pixels, width, height, 3 * width));
    });
    _check(_run(_handle));
  }
//@ end
//@ if numbers

  /// The [count] likeliest classes of the inputs that [run] takes, the likeliest first.
  List<Classification> classify(@parameters@, {int count = 5}) {
    run(@arguments@);
    return _top(count);
  }
//@ end

  /// Gives the memory back. Closing twice is no error.
  void close() {
    if (_handle == nullptr) return;
    _finalizer.detach(this);
    _destroy(_handle);
    _handle = nullptr;
  }
//@ if classes

  List<Classification> _top(int count) => using((arena) {
        if (count < 1) throw ArgumentError('count is $count; at least one class can be asked for');
        final length = count < @class_count@ ? count : @class_count@;
        final found = arena<_RawClass>(length);
        _check(_topK(_handle, @scores@, length, found));
        return [
          for (final c in [for (var i = 0; i < length; ++i) found[i]])
            (
              index: c.index,
              label: _label(c.label, c.index),
              probability: c.probability,
            ),
        ];
      });
//@ end

//@ if inputs
  void _set(int index, TypedData data, int size, String what) {
    final length = data.lengthInBytes ~/ data.elementSizeInBytes;
    if (length != size) throw ArgumentError('$what has $length elements; $size are needed');
    using((arena) {
      final bytes = data.lengthInBytes;
      final copy = arena<Uint8>(bytes + 1);
      copy.asTypedList(bytes).setAll(0, data.buffer.asUint8List(data.offsetInBytes, bytes));
      _check(_setInput(_handle, index, copy.cast(), bytes));
    });
  }

//@ end
  void _get(int index, TypedData data) {
    using((arena) {
      final bytes = data.lengthInBytes;
      final copy = arena<Uint8>(bytes + 1);
      _check(_getOutput(_handle, index, copy.cast(), bytes));
      data.buffer.asUint8List(data.offsetInBytes, bytes).setAll(0, copy.asTypedList(bytes));
    });
  }

  void _open() {
    if (_handle == nullptr) throw StateError('the predictor is closed');
  }
}
