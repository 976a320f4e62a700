// Uses the module digits; what it prints is read by test_bindings.py.
package main

import (
	"digits"
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	raw, picture := must(os.ReadFile(os.Args[1])), must(os.ReadFile(os.Args[2]))
	image := make([]float32, len(raw)/4)
	for i := range image {
		image[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	predictor := must(digits.New())
	for _, p := range must(predictor.Run(image)).Probability {
		fmt.Println("run", p)
	}
	for _, class := range must(predictor.Classify(picture, 8, 8, 3)) {
		fmt.Println("class", class.Index, class.Label, class.Probability)
	}
	_, err := predictor.Run(image[1:])
	fmt.Println("length:", err)
	_, err = predictor.Classify(picture, 9, 8, 3)
	fmt.Println("picture:", err)
	_, err = predictor.Classify(picture, 8, 8, 0)
	fmt.Println("count:", err)
	predictor.Close()
	predictor.Close()
	_, err = predictor.Run(image)
	fmt.Println("closed:", err)
	_, err = predictor.Classify(picture, 8, 8, 3)
	fmt.Println("closed:", err)
}
