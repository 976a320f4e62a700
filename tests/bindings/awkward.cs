// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
using System;
using Awkward;
static class Program {
    static void Main(string[] arguments) {
        var p = new Predictor(arguments[0]);
        float[] x = { 1, 2, 3, 4 };
        long[] c = { 10, 20, 30 };
        var y = p.Run(x, c);
        Console.WriteLine("func " + string.Join(" ", y.Func));
        Console.WriteLine("in " + string.Join(" ", y.In0));
        Console.WriteLine("class " + p.Classify(x, c, 1)[0].Label);
        try { p.Run(x, new long[1]); } catch (ArgumentException) { Console.WriteLine("length error"); }
        try { new Predictor("absent"); } catch (PredictorException) { Console.WriteLine("weights error"); }
    }
}
