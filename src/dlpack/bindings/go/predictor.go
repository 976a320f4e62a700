// Package @name@ runs a neural network. @about@
package @name@

// #cgo CXXFLAGS: @cgo_flags@ -fno-exceptions -fno-rtti
// #include <stdlib.h>
// #include "@header@"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
//@ if classes
	"strconv"
//@ end
	"sync"
	"unsafe"
)

// ErrClosed is what a closed predictor answers.
var ErrClosed = errors.New("the predictor is closed")

// Outputs is what a run gives, row-major.
type Outputs struct {
	@fields@
}

//@ if classes
// Class is a class: its place in the output, its name (the place in digits where it has none) and its probability.
type Class struct {
	Index       int
	Label       string
	Probability float32
}

//@ end
// Predictor is a compiled model. Several goroutines may call one, which serves them in turn; to compute at the same
// time make one for each.
type Predictor struct {
	mutex  sync.Mutex
	handle *C.@name@_predictor
}

//@ if side
// New maps the weights, the file @weights@ of the bundle, and makes a predictor.
func New(weights string) (*Predictor, error) {
	path := C.CString(weights)
	defer C.free(unsafe.Pointer(path))
	p := &Predictor{}
	if err := check(C.@name@_create_from_file(&p.handle, path)); err != nil {
//@ else
// New makes a predictor.
func New() (*Predictor, error) {
	p := &Predictor{}
	if err := check(C.@name@_create(&p.handle, nil, 0, nil, 0)); err != nil {
//@ end
		return nil, err
	}
	runtime.SetFinalizer(p, (*Predictor).Close)
	return p, nil
}

// Close gives the memory back. Closing twice is no error.
func (p *Predictor) Close() error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	C.@name@_destroy(p.handle)
	p.handle = nil
	runtime.SetFinalizer(p, nil)
	return nil
}

//@ if inputs
// Run computes all outputs. An input of a wrong length is an error.
//
@input_docs@
//@ else
// Run computes all outputs.
//@ end
func (p *Predictor) Run(@parameters@) (Outputs, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.run(@arguments@)
}

func (p *Predictor) run(@parameters@) (Outputs, error) {
	if p.handle == nil {
		return Outputs{}, ErrClosed
	}
	@set_inputs@
	if err := check(C.@name@_run(p.handle)); err != nil {
		return Outputs{}, err
	}
	out := Outputs{@make_outputs@}
	@get_outputs@
	return out, nil
}

//@ if pictures
// Classify gives the likeliest classes of a picture, the likeliest first: height rows of width pixels R, G, B.
func (p *Predictor) Classify(rgb []byte, width, height, count int) ([]Class, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.handle == nil {
		return nil, ErrClosed
	}
	if width < 1 || height < 1 || width > 1<<20 || height > 1<<20 || len(rgb) != 3*width*height {
		return nil, fmt.Errorf("the picture has %d bytes; 3 x %d x %d are needed", len(rgb), width, height)
	}
	pixels := (*C.uint8_t)(unsafe.Pointer(&rgb[0]))
	status := C.@name@_preprocess_rgb(p.handle, pixels, C.int32_t(width), C.int32_t(height), C.ptrdiff_t(3*width))
	if err := check(status); err != nil {
		return nil, err
	}
	if err := check(C.@name@_run(p.handle)); err != nil {
		return nil, err
	}
	return p.top(count)
}

//@ end
//@ if numbers
// Classify gives the likeliest classes of the inputs that Run takes, the likeliest first.
func (p *Predictor) Classify(@parameters@, count int) ([]Class, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if _, err := p.run(@arguments@); err != nil {
		return nil, err
	}
	return p.top(count)
}

//@ end
//@ if classes
func (p *Predictor) top(count int) ([]Class, error) {
	var found [@classes@]C.@name@_class
	if count > len(found) {
		count = len(found)
	}
	if err := check(C.@name@_top_k(p.handle, @scores@, C.int32_t(count), &found[0])); err != nil {
		return nil, err
	}
	classes := make([]Class, count)
	for i, c := range found[:count] {
		label := strconv.Itoa(int(c.index))
		if c.label != nil {
			label = C.GoString(c.label)
		}
		classes[i] = Class{int(c.index), label, float32(c.probability)}
	}
	return classes, nil
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

func get[T any](p *Predictor, index int, data []T) error {
	if len(data) == 0 {
		return nil
	}
	bytes := C.size_t(uintptr(len(data)) * unsafe.Sizeof(data[0]))
	return check(C.@name@_get_output(p.handle, C.int32_t(index), unsafe.Pointer(&data[0]), bytes))
}

func check(status C.@name@_status) error {
	if status == 0 {
		return nil
	}
	return errors.New(C.GoString(C.@name@_error_text(status)))
}
