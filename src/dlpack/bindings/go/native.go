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
// set is the step that gives an input its elements, and get that which takes an output's: as many as sizes says, which
// has a number for each set of shapes.
func set[T any](p *Predictor, index int, data []T, what string, sizes ...int) func() error {
	return func() error {
//@ if shapes
		size := sizes[p.Shape()]
//@ else
		size := sizes[0]
//@ end
		if len(data) != size {
			return fmt.Errorf("%s has %d elements; %d are needed", what, len(data), size)
		}
		address, bytes := memory(data)
		return check(C.@name@_set_input(p.handle, C.int32_t(index), address, bytes))
	}
}

func get[T any](p *Predictor, index int, to *[]T, sizes ...int) func() error {
	return func() error {
//@ if shapes
		*to = make([]T, sizes[p.Shape()])
//@ else
		*to = make([]T, sizes[0])
//@ end
		address, bytes := memory(*to)
		return check(C.@name@_get_output(p.handle, C.int32_t(index), address, bytes))
	}
}

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
