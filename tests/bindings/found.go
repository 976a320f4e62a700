// Uses the module found; what it prints is read by test_bindings_sets.py.
package main

import (
	"fmt"
	"found"
	"os"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func ones(size int, value float32) []float32 {
	image := make([]float32, size)
	for i := range image {
		image[i] = value
	}
	return image
}

func main() {
	picture := must(os.ReadFile(os.Args[1]))
	p := must(found.New())
	fmt.Print(must("", p.SetThreads(2)), must("", p.ReshapeImage(1, 3, 8, 8)))
	twice := must(p.Run(ones(192, 1.5))).Twice
	fmt.Println("set", p.Shape(), len(twice), twice[191])
	fmt.Print(must("", p.SetShape(0)))
	twice = must(p.Run(ones(108, 2.5))).Twice
	fmt.Println("set", p.Shape(), len(twice), twice[107])
	for _, d := range must(p.Detect(picture, 7, 5, found.Threshold)) {
		fmt.Println("found", d.Index, d.Label, d.Score, d.X, d.Y, d.Width, d.Height)
	}
	fmt.Println("sure", len(must(p.Detect(picture, 7, 5, 2))))
	small := must(found.NewWithin(must(found.MemoryForImage(1, 3, 8, 8))))
	fmt.Print(must("", small.ReshapeImage(1, 3, 8, 8)))
	fmt.Println("small", must(small.Run(ones(192, 1.5))).Twice[191])
	fmt.Println("memory:", small.ReshapeImage(1, 3, 206, 206))
	fmt.Println("memory:", small.SetShape(10200))
	_, err := found.MemoryForImage(1, 3, 8, 7)
	fmt.Println("largest:", err)
	fmt.Println("bounds:", p.ReshapeImage(1, 3, 8, 208))
	fmt.Println("step:", p.ReshapeImage(1, 3, 8, 7))
	_, err = p.Run(ones(192, 1))
	fmt.Println("length:", err)
	_, err = p.Detect(picture, 8, 5, 0.5)
	fmt.Println("picture:", err)
	fmt.Println("shape:", p.SetShape(10201))
	fmt.Println("threads:", p.SetThreads(3))
	p.Close()
	fmt.Println("closed:", p.SetShape(0))
	fmt.Println("closed:", p.ReshapeImage(1, 3, 8, 8))
	fmt.Println("closed:", p.SetThreads(1))
	_, err = p.Detect(picture, 7, 5, 0.5)
	fmt.Println("closed:", err)
}
