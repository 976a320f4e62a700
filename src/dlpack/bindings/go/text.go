package @name@

//@ if decodes
// #include "@header@"
// int32_t @name@_go_token(void* user, int64_t token);
//@ if writes
// int32_t @name@_go_text(void* user, char* text, size_t bytes);
//@ end
//@ else
// #include "@header@"
//@ end
import "C"

import (
	"errors"
//@ if decodes
	"fmt"
	"runtime/cgo"
	"strings"
//@ end
	"unsafe"
)

// ErrTooLong says that a text is too long.
var ErrTooLong = errors.New("@too_long@")

//@ if embeds
// ErrTooManyTokens says that a text is too long to be embedded.
var ErrTooManyTokens = errors.New("@too_many_tokens@")

//@ end
//@ if decodes
// ErrFull says that the text would get longer; what was written before comes with it.
var ErrFull = errors.New("@full@")

// ErrRefused says that nothing can be written so.
var ErrRefused = errors.New("@refused@")

// Generation says how a text is written.
type Generation struct {
	MaxTokens   int     // the most tokens to write; 0: 128
	Temperature float32 // 0: the likeliest token each time; else a token's chance is softmax(scores / Temperature)
	TopK        int     // only the so many likeliest are chosen from; 0: all
	TopP        float32 // of those only the likeliest that together have at least this share; 0: all
	Seed        uint64  // the same seed gives the same text
	Stop        []int64 // tokens that end the text and are not given; nil: none, or in Write those that the model names
	Keep        bool    // whether the prompt goes on from the text so far, that the predictor has read and written
}

//@ end
//@ if tokenizer
// Tokenize gives the ids of a text; special: with the tokens around it. Broken UTF-8 counts as U+FFFD.
func (p *Predictor) Tokenize(text string, special bool) (ids []int32, err error) {
	data := []byte(text + "\x00")
	ids = make([]int32, len(text)+16)
	err = p.do(func() error {
		var count C.size_t
		for {
			status := C.@name@_tokenize(p.handle, (*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(text)), flag(special),
				(*C.int32_t)(&ids[0]), C.size_t(len(ids)), &count)
			if status != C.@NAME@_TOO_LONG || count == 0 {
				ids = ids[:count]
				return checkText(status)
			}
			ids = make([]int32, count)
		}
	})
	return ids, err
}

// Detokenize gives the text of ids; special: with special tokens. Ids without a token are left out.
func (p *Predictor) Detokenize(ids []int32, special bool) (text string, err error) {
	data, given := make([]byte, 16*len(ids)+1), append(ids[:len(ids):len(ids)], 0)
	err = p.do(func() error {
		for {
			var bytes C.size_t
			status := C.@name@_detokenize(p.handle, (*C.int32_t)(&given[0]), C.size_t(len(ids)), flag(special),
				(*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(data)), &bytes)
			if status != C.@NAME@_TOO_LONG {
				text = string(data[:bytes])
				return checkText(status)
			}
			data = make([]byte, bytes)
		}
	})
	return text, err
}

//@ end
//@ if embeds
// Embed gives the embedding of a text, @embedding@ numbers; cut: of the beginning of one that is too long.
func (p *Predictor) Embed(text string, cut bool) ([]float32, error) {
	data, embedding := []byte(text+"\x00"), make([]float32, @embedding@)
	err := p.do(func() error {
		status := C.@name@_embed(p.handle, (*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(text)), flag(cut),
			(*C.float)(&embedding[0]))
		if status == C.@NAME@_TOO_LONG && len(text) <= @text_bytes@ {
			return ErrTooManyTokens
		}
		return checkText(status)
	})
	return embedding, err
}

//@ end
//@ if decodes
// Generate gives the tokens that the model writes after a prompt. onToken, if it is not nil, is called with each; true
// ends the text. It must not use the predictor.
func (p *Predictor) Generate(prompt []int64, how Generation, onToken func(int64) bool) (tokens []int64, err error) {
	take := cgo.NewHandle(func(token int64) bool {
		tokens = append(tokens, token)
		return onToken != nil && onToken(token)
	})
	defer take.Delete()
	err = p.write(how, func(most C.size_t, sampler *C.@name@_sampler, stop *C.int64_t) C.@name@_status {
		return C.@name@_generate(p.handle, address(prompt), C.size_t(len(prompt)), most, sampler, stop,
			C.size_t(len(how.Stop)), C.@name@_on_token(C.@name@_go_token), unsafe.Pointer(&take), nil, nil)
	})
	return tokens, err
}

//@ end
//@ if writes
// Write gives what the model writes after a prompt. onText, if it is not nil, is called with each piece; true ends the
// text. It must not use the predictor.
func (p *Predictor) Write(prompt string, how Generation, onText func(string) bool) (string, error) {
	var text strings.Builder
	take := cgo.NewHandle(func(piece string) bool {
		text.WriteString(piece)
		return onText != nil && onText(piece)
	})
	defer take.Delete()
	data := []byte(prompt + "\x00")
	err := p.write(how, func(most C.size_t, sampler *C.@name@_sampler, stop *C.int64_t) C.@name@_status {
		return C.@name@_write(p.handle, (*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(prompt)), most, sampler, stop,
			C.size_t(len(how.Stop)), C.@name@_on_text(C.@name@_go_text), unsafe.Pointer(&take), nil, 0, nil)
	})
	return text.String(), err
}

//@ end
//@ if decodes
func (p *Predictor) write(how Generation, call func(C.size_t, *C.@name@_sampler, *C.int64_t) C.@name@_status) error {
	if how.MaxTokens < 0 {
		return fmt.Errorf("%d is no number of tokens", how.MaxTokens)
	}
	if how.MaxTokens == 0 {
		how.MaxTokens = 128
	}
	if how.TopP == 0 {
		how.TopP = 1
	}
	sampler := C.@name@_sampler{temperature: C.float(how.Temperature), top_k: C.int32_t(how.TopK),
		top_p: C.float(how.TopP), seed: C.uint64_t(how.Seed)}
	var stop *C.int64_t
	if how.Stop != nil {
		stop = address(append(how.Stop[:len(how.Stop):len(how.Stop)], 0))
	}
	return p.do(func() error {
		if !how.Keep {
			if err := check(C.@name@_rewind(p.handle, 0)); err != nil {
				return err
			}
		}
		return checkText(call(C.size_t(how.MaxTokens), &sampler, stop))
	})
}

//export @name@_go_token
func @name@_go_token(user unsafe.Pointer, token C.int64_t) C.int32_t {
	return flag((*cgo.Handle)(user).Value().(func(int64) bool)(int64(token)))
}

//@ end
//@ if writes
//export @name@_go_text
func @name@_go_text(user unsafe.Pointer, text *C.char, bytes C.size_t) C.int32_t {
	return flag((*cgo.Handle)(user).Value().(func(string) bool)(C.GoStringN(text, C.int(bytes))))
}

//@ end
//@ if decodes
func address(tokens []int64) *C.int64_t {
	if len(tokens) == 0 {
		return nil
	}
	return (*C.int64_t)(&tokens[0])
}

//@ end
func flag(holds bool) C.int32_t {
	if holds {
		return 1
	}
	return 0
}

func checkText(status C.@name@_status) error {
	switch status {
	case C.@NAME@_TOO_LONG:
		return ErrTooLong
//@ if decodes
	case C.@NAME@_FULL:
		return ErrFull
	case C.@NAME@_BAD_ARGUMENT:
		return ErrRefused
//@ end
	}
	return check(status)
}
