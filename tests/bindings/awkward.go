// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
package main

import (
	"awkward"
	"fmt"
	"os"
)

func told(name string, err error) {
	if err != nil {
		fmt.Println(name, "error")
	}
}

func main() {
	p, err := awkward.New(os.Args[1])
	if err != nil {
		panic(err)
	}
	x, c := []float32{1, 2, 3, 4}, []int64{10, 20, 30}
	y, err := p.Run(x, c)
	fmt.Println("func", y.Func[0], y.Func[1], y.Func[2])
	fmt.Println("in", y.In0[0], y.In0[1], y.In0[2])
	classes, err := p.Classify(x, c, 1)
	fmt.Println("class", classes[0].Label)
	_, err = p.Run(x, nil)
	told("length", err)
	_, err = awkward.New("absent")
	told("weights", err)
}
