// The C API, as @header@ describes it.
part of '../@name@.dart';

final _library = DynamicLibrary.open(libraryPath);
@lookups@

void _check(int status) {
  if (status != 0) throw StateError(_errorText(status).toDartString());
}
//@ if shapes

final class _RawTensor extends Struct {
  external Pointer<Utf8> name;
  external Pointer<Utf8> dtype;
  external Pointer<Int64> shape;
  @Int32()
  external int rank;
  @Size()
  external int bytes;
  @Float()
  external double scale;
  @Int32()
  external int zeroPoint;
}
//@ end
//@ if classes

final class _RawClass extends Struct {
  @Int32()
  external int index;
  @Float()
  external double probability;
  external Pointer<Utf8> label;
}
//@ end
//@ if boxes

final class _RawDetection extends Struct {
  @Int32()
  external int index;
  @Float()
  external double score;
  @Float()
  external double x;
  @Float()
  external double y;
  @Float()
  external double width;
  @Float()
  external double height;
  external Pointer<Utf8> label;
}
//@ end
//@ if lists

String _label(Pointer<Utf8> name, int index) => name == nullptr ? '$index' : name.toDartString();
//@ end
