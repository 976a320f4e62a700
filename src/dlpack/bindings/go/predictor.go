// Package @name@ runs a trained model. @about@
package @name@

// #include <stdlib.h>
// #include "@header@"
import "C"

import (
	"errors"
//@ if fmt
	"fmt"
//@ end
	"runtime"
	"sync"
//@ if unsafe
	"unsafe"
//@ end
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
// Predictor is a compiled model. Several goroutines may call one, which serves them in turn; to compute at the same
// time make one for each.
type Predictor struct {
	mutex  sync.Mutex
	handle *C.@name@_predictor
}

//@ if side
//@ if open
// New maps the weights, the file @weights@ of the bundle, and makes a predictor for all sizes.
func New(weights string) (*Predictor, error) { return NewWithin(0, weights) }

@memory_docs@
func NewWithin(memory uint64, weights string) (*Predictor, error) {
	path := C.CString(weights)
	defer C.free(unsafe.Pointer(path))
	p := &Predictor{}
	if err := check(C.@name@_create_from_file_within(&p.handle, path, C.size_t(memory))); err != nil {
//@ else
// New maps the weights, the file @weights@ of the bundle, and makes a predictor.
func New(weights string) (*Predictor, error) {
	path := C.CString(weights)
	defer C.free(unsafe.Pointer(path))
	p := &Predictor{}
	if err := check(C.@name@_create_from_file(&p.handle, path)); err != nil {
//@ end
//@ else
//@ if open
// New makes a predictor for all sizes.
func New() (*Predictor, error) { return NewWithin(0) }

@memory_docs@
func NewWithin(memory uint64) (*Predictor, error) {
	p := &Predictor{}
	if err := check(C.@name@_create(&p.handle, nil, C.size_t(memory), nil, 0)); err != nil {
//@ else
// New makes a predictor.
func New() (*Predictor, error) {
	p := &Predictor{}
	if err := check(C.@name@_create(&p.handle, nil, 0, nil, 0)); err != nil {
//@ end
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
		if number < 0 || number >= @shape_count@ {
			return fmt.Errorf("set of shapes %d: there are @shape_count@, from 0 on", number)
		}
		return check(C.@name@_set_shape(p.handle, C.int32_t(number)))
	})
}

//@ if open
@reshapes@

func (p *Predictor) reshape(input C.int32_t, extents []int64, what string) error {
	return p.do(func() error {
		shape, _ := memory(extents)
		status := C.@name@_reshape(p.handle, input, (*C.int64_t)(shape), C.int32_t(len(extents)))
		if status == C.@NAME@_BAD_ARGUMENT {
			return fmt.Errorf("%s, not %v", what, extents)
		}
		return check(status)
	})
}

func memoryFor(input C.int32_t, extents []int64, what string) (uint64, error) {
	shape, _ := memory(extents)
	bytes := C.@name@_memory_size_for(input, (*C.int64_t)(shape), C.int32_t(len(extents)))
	if bytes == 0 {
		return 0, fmt.Errorf("%s, not %v", what, extents)
	}
	return uint64(bytes), nil
}

//@ end
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
	err = p.do(
		@set_inputs@
		p.compute,
		@get_outputs@
	)
	return out, err
}

//@ if pictures
//@ if classes
// Classify gives the likeliest classes of a picture, the likeliest first: height rows of width pixels R, G, B.
func (p *Predictor) Classify(rgb []byte, width, height, count int) (found []Class, err error) {
	err = p.do(
		func() error { return p.setPicture(rgb, width, height) },
		p.compute,
		func() error { found, err = p.top(count); return err },
	)
	return found, err
}

//@ end
//@ if boxes
// Detect gives what is in a picture, the surest first, with a score of at least threshold: height rows of width pixels
// R, G, B.
func (p *Predictor) Detect(rgb []byte, width, height int, threshold float64) (found []Detection, err error) {
	err = p.do(
		func() error { return p.setPicture(rgb, width, height) },
		p.compute,
		func() error {
			found, err = p.found(C.int32_t(width), C.int32_t(height), C.double(threshold))
			return err
		},
	)
	return found, err
}

func (p *Predictor) found(width, height C.int32_t, least C.double) (found []Detection, err error) {
	var raw [@most@]C.@name@_detection
	var count C.int32_t
	err = check(C.@name@_detections(p.handle, width, height, least, @most@, &raw[0], &count))
	for _, d := range raw[:count] {
		x, y, width, height := float32(d.x), float32(d.y), float32(d.width), float32(d.height)
		found = append(found, Detection{int(d.index), label(d.label, d.index), float32(d.score), x, y, width, height})
	}
	return found, err
}

//@ end
func (p *Predictor) setPicture(rgb []byte, width, height int) error {
	if width < 1 || height < 1 || width > 1<<20 || height > 1<<20 || len(rgb) != 3*width*height {
		return fmt.Errorf("the picture has %d bytes; 3 x %d x %d are needed", len(rgb), width, height)
	}
	pixels := (*C.uint8_t)(unsafe.Pointer(&rgb[0]))
	w, h, row := C.int32_t(width), C.int32_t(height), C.ptrdiff_t(3*width)
	return check(C.@name@_preprocess_rgb(p.handle, pixels, w, h, row))
}

//@ end
//@ if numbers
// Classify gives the likeliest classes of the inputs that Run takes, the likeliest first.
func (p *Predictor) Classify(@parameters@, count int) (found []Class, err error) {
	err = p.do(
		@set_inputs@
		p.compute,
		func() error { found, err = p.top(count); return err },
	)
	return found, err
}

//@ end
//@ if classes
func (p *Predictor) top(count int) ([]Class, error) {
	var raw [@classes@]C.@name@_class
	if most := @class_count@; count > most {
		count = most
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
func (p *Predictor) compute() error { return check(C.@name@_run(p.handle)) }

// do takes steps with a predictor that is open, one call at a time, up to the first that fails.
func (p *Predictor) do(steps ...func() error) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.handle == nil {
		return ErrClosed
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
