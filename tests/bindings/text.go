package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"writer"
)

func told(text string) string {
	sum := 0
	for i := 0; i < len(text); i++ {
		sum += int(text[i])
	}
	return fmt.Sprint(len(text), " ", sum)
}

func joined[T any](numbers []T) string { return strings.Trim(fmt.Sprint(numbers), "[]") }

func drawn(most int) writer.Generation {
	return writer.Generation{MaxTokens: most, Temperature: 1.2, TopK: 50, TopP: 0.95, Seed: 7}
}

func refused(name string, call func() error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			fmt.Println(name+":", panicked)
		}
	}()
	if err := call(); err != nil {
		fmt.Println(name+":", err)
	} else {
		fmt.Println(name + ": no error")
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	prompt := os.Args[1]
	p := must(writer.New())
	ids := must(p.Tokenize(prompt, true))
	var tokens []int64
	for _, id := range ids {
		tokens = append(tokens, int64(id))
	}
	fmt.Println("ids", joined(ids))
	fmt.Println("back", must(p.Detokenize(ids, false)))
	fmt.Println("plain", len(must(p.Tokenize(prompt, false))))
	fmt.Println("tokens", joined(must(p.Generate(tokens, drawn(6), nil))))
	pieces := 0
	text := must(p.Write(prompt, drawn(20), func(string) bool { pieces++; return false }))
	fmt.Println("text", told(text), pieces)
	fmt.Println("first", told(must(p.Write(prompt, drawn(20), func(string) bool { return true }))))
	must(p.Write(prompt, drawn(5), nil))
	fmt.Println("kept", told(must(p.Write("and", writer.Generation{MaxTokens: 4, Keep: true}, nil))))
	most := writer.Generation{MaxTokens: 99, Stop: []int64{}}
	text, err := p.Write(prompt, most, nil)
	fmt.Println("full:", err)
	if errors.Is(err, writer.ErrFull) {
		fmt.Println("written", told(text))
	}
	made, _ := p.Generate(tokens, most, nil)
	fmt.Println("made", len(made))
	fmt.Println("broken", joined(must(p.Tokenize("a\xff", true))) == joined(must(p.Tokenize("a\ufffd", true))))
	refused("long", func() error { _, err := p.Tokenize(strings.Repeat("a", 40000), true); return err })
	refused("empty", func() error { _, err := p.Generate(nil, most, nil); return err })
	refused("token", func() error { _, err := p.Generate([]int64{9999}, most, nil); return err })
	refused("sampler", func() error {
		_, err := p.Write(prompt, writer.Generation{Temperature: 1, TopP: 2}, nil)
		return err
	})
	refused("callback", func() error {
		_, err := p.Write(prompt, most, func(string) bool { panic("of its own") })
		return err
	})
	p.Close()
	refused("closed", func() error { _, err := p.Tokenize(prompt, true); return err })
}
