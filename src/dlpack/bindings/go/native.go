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
func set[T any](p *Predictor, index int, data []T, size int, what string) error {
	if len(data) != size {
		return fmt.Errorf("%s has %d elements; %d are needed", what, len(data), size)
	}
	if size == 0 {
		return nil
	}
	bytes := C.size_t(uintptr(size) * unsafe.Sizeof(data[0]))
	return check(C.@name@_set_input(p.handle, C.int32_t(index), unsafe.Pointer(&data[0]), bytes))
}

func get[T any](p *Predictor, index int, to *[]T, size int) error {
	data := make([]T, size)
	*to = data
	if size == 0 {
		return nil
	}
	bytes := C.size_t(uintptr(size) * unsafe.Sizeof(data[0]))
	return check(C.@name@_get_output(p.handle, C.int32_t(index), unsafe.Pointer(&data[0]), bytes))
}

func check(status C.@name@_status) error {
	if status == 0 {
		return nil
	}
	return errors.New(C.GoString(C.@name@_error_text(status)))
}
