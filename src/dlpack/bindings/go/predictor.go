// Package @name@ runs a trained model. @about@
package @name@

// #cgo CXXFLAGS: @cgo_flags@ -fno-exceptions -fno-rtti
// #include <stdlib.h>
// #include "@header@"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
//@ if lists
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
//@ if boxes
// Threshold is the least score of a detection that the model was built with.
const Threshold = @threshold@

// Detection is a box in a picture: its class and its name (the place in digits where it has none), its score, its upper
// left corner and size in pixels.
type Detection struct {
	Index               int
	Label               string
	Score               float32
	X, Y, Width, Height float32
}

//@ end
//@ if shapes
// Elements of the inputs in each set of shapes, and of the outputs.
var inputSizes = [@shape_count@][@input_count@]int{@input_sizes@}
var outputSizes = [@shape_count@][@output_count@]int{@output_sizes@}

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

//@ if shapes
// Shape is the number of the set of shapes that inputs and outputs have, at first 0.
func (p *Predictor) Shape() int { return int(C.@name@_shape(p.handle)) }

// SetShape chooses a set of shapes for what comes next:
//
@shape_docs@
func (p *Predictor) SetShape(number int) error {
	return p.do(func() error {
		if number < 0 || number >= len(inputSizes) {
			return fmt.Errorf("set of shapes %d: there are %d, from 0 on", number, len(inputSizes))
		}
		return check(C.@name@_set_shape(p.handle, C.int32_t(number)))
	})
}

//@ end
//@ if threads
// SetThreads computes on this many threads from now on, at most @threads@; at first on as many as there are processors.
func (p *Predictor) SetThreads(count int) error {
	return p.do(func() error {
		if count < 1 || count > @threads@ {
			return fmt.Errorf("%d threads: from 1 to @threads@ can be chosen", count)
		}
		return check(C.@name@_set_threads(p.handle, C.int32_t(count)))
	})
}

//@ end
//@ if inputs
// Run computes all outputs. An input of a wrong length is an error.
//
@input_docs@
//@ else
// Run computes all outputs.
//@ end
func (p *Predictor) Run(@parameters@) (out Outputs, err error) {
	err = p.do(func() error {
		out, err = p.run(@arguments@)
		return err
	})
	return out, err
}

func (p *Predictor) run(@parameters@) (Outputs, error) {
	@set_inputs@
	if err := check(C.@name@_run(p.handle)); err != nil {
		return Outputs{}, err
	}
	out := Outputs{@make_outputs@}
	@get_outputs@
	return out, nil
}

//@ if pictures
//@ if classes
// Classify gives the likeliest classes of a picture, the likeliest first: height rows of width pixels R, G, B.
func (p *Predictor) Classify(rgb []byte, width, height, count int) (found []Class, err error) {
	err = p.do(func() error {
		if err := p.runPicture(rgb, width, height); err != nil {
			return err
		}
		found, err = p.top(count)
		return err
	})
	return found, err
}

//@ end
//@ if boxes
// Detect gives what is in a picture, the surest first, with a score of at least threshold: height rows of width pixels
// R, G, B.
func (p *Predictor) Detect(rgb []byte, width, height int, threshold float64) (found []Detection, err error) {
	err = p.do(func() error {
		if err := p.runPicture(rgb, width, height); err != nil {
			return err
		}
		var raw [@most@]C.@name@_detection
		var count C.int32_t
		w, h, least := C.int32_t(width), C.int32_t(height), C.double(threshold)
		if err := check(C.@name@_detections(p.handle, w, h, least, @most@, &raw[0], &count)); err != nil {
			return err
		}
		for _, d := range raw[:count] {
			x, y, width, height := float32(d.x), float32(d.y), float32(d.width), float32(d.height)
			found = append(found, Detection{int(d.index), label(d.label, d.index), float32(d.score), x, y, width, height})
		}
		return nil
	})
	return found, err
}

//@ end
func (p *Predictor) runPicture(rgb []byte, width, height int) error {
	if width < 1 || height < 1 || width > 1<<20 || height > 1<<20 || len(rgb) != 3*width*height {
		return fmt.Errorf("the picture has %d bytes; 3 x %d x %d are needed", len(rgb), width, height)
	}
	pixels := (*C.uint8_t)(unsafe.Pointer(&rgb[0]))
	status := C.@name@_preprocess_rgb(p.handle, pixels, C.int32_t(width), C.int32_t(height), C.ptrdiff_t(3*width))
	if err := check(status); err != nil {
		return err
	}
	return check(C.@name@_run(p.handle))
}

//@ end
//@ if numbers
// Classify gives the likeliest classes of the inputs that Run takes, the likeliest first.
func (p *Predictor) Classify(@parameters@, count int) (found []Class, err error) {
	err = p.do(func() error {
		if _, err := p.run(@arguments@); err != nil {
			return err
		}
		found, err = p.top(count)
		return err
	})
	return found, err
}

//@ end
//@ if classes
func (p *Predictor) top(count int) ([]Class, error) {
	var raw [@classes@]C.@name@_class
	if count > @class_count@ {
		count = @class_count@
	}
	if err := check(C.@name@_top_k(p.handle, @scores@, C.int32_t(count), &raw[0])); err != nil {
		return nil, err
	}
	classes := make([]Class, count)
	for i, c := range raw[:count] {
		classes[i] = Class{int(c.index), label(c.label, c.index), float32(c.probability)}
	}
	return classes, nil
}

//@ end
//@ if lists
func label(name *C.char, index C.int32_t) string {
	if name == nil {
		return strconv.Itoa(int(index))
	}
	return C.GoString(name)
}

//@ end
// do calls a function for a predictor that is open, one at a time.
func (p *Predictor) do(call func() error) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.handle == nil {
		return ErrClosed
	}
	return call()
}

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
