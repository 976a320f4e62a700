package @name@

// #cgo CXXFLAGS: @cgo_flags@ -fno-exceptions -fno-rtti
// #include "@header@"
import "C"

import (
	"errors"
	"fmt"
//@ if lists
	"strconv"
//@ end
	"unsafe"
)

//@ if lists
func label(name *C.char, index C.int32_t) string {
	if name == nil {
		return strconv.Itoa(int(index))
	}
	return C.GoString(name)
}

//@ end
// set is the step that gives an input its elements, and get that which takes an output's.
//@ if shapes
func set[T any](p *Predictor, index C.int32_t, data []T, what string) func() error {
	return func() error {
		size := elements[T](C.@name@_input_of(p.handle, index))
//@ else
func set[T any](p *Predictor, index C.int32_t, data []T, what string, size int) func() error {
	return func() error {
//@ end
		if len(data) != size {
			return fmt.Errorf("%s has %d elements; %d are needed", what, len(data), size)
		}
		address, bytes := memory(data)
		return check(C.@name@_set_input(p.handle, index, address, bytes))
	}
}

//@ if shapes
func get[T any](p *Predictor, index C.int32_t, to *[]T) func() error {
	return func() error {
		*to = make([]T, elements[T](C.@name@_output_of(p.handle, index)))
//@ else
func get[T any](p *Predictor, index C.int32_t, to *[]T, size int) func() error {
	return func() error {
		*to = make([]T, size)
//@ end
		address, bytes := memory(*to)
		return check(C.@name@_get_output(p.handle, index, address, bytes))
	}
}

//@ if shapes
func elements[T any](tensor *C.@name@_tensor) int {
	var element T
	return int(uintptr(tensor.bytes) / unsafe.Sizeof(element))
}

//@ end
// memory is where elements are, and how many bytes; C wants an address of none, too.
func memory[T any](data []T) (unsafe.Pointer, C.size_t) {
	if len(data) == 0 {
		data = make([]T, 1)
		return unsafe.Pointer(&data[0]), 0
	}
	return unsafe.Pointer(&data[0]), C.size_t(uintptr(len(data)) * unsafe.Sizeof(data[0]))
}

func check(status C.@name@_status) error {
	if status == 0 {
		return nil
	}
	return errors.New(C.GoString(C.@name@_error_text(status)))
}
