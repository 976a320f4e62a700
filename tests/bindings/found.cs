// Uses Predictor.cs; what it prints is read by test_bindings_sets.py.
using System;
using System.Globalization;
using System.IO;
using System.Linq;
using Found;

static class Program
{
    static void Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        var picture = File.ReadAllBytes(arguments[0]);
        var first = Enumerable.Repeat(1.5f, 192).ToArray();
        var p = new Predictor();
        p.SetThreads(2);
        p.ReshapeImage(1, 3, 8, 8);
        var twice = p.Run(first).Twice;
        Console.WriteLine("set {0} {1} {2}", p.Shape, twice.Length, twice[191]);
        p.Shape = 0;
        twice = p.Run(Enumerable.Repeat(2.5f, 108).ToArray()).Twice;
        Console.WriteLine("set {0} {1} {2}", p.Shape, twice.Length, twice[107]);
        foreach (var d in p.Detect(picture, 7, 5))
            Console.WriteLine("found {0} {1} {2} {3} {4} {5} {6}", d.Index, d.Label, d.Score, d.X, d.Y, d.Width, d.Height);
        Console.WriteLine("sure {0}", p.Detect(picture, 7, 5, 2).Count);
        var small = new Predictor(memory: Predictor.MemoryForImage(1, 3, 8, 8));
        small.ReshapeImage(1, 3, 8, 8);
        Console.WriteLine("small {0}", small.Run(first).Twice[191]);
        Fails("memory", () => small.ReshapeImage(1, 3, 206, 206));
        Fails("memory", () => small.Shape = 10200);
        Fails("largest", () => Predictor.MemoryForImage(1, 3, 8, 7));
        Fails("bounds", () => p.ReshapeImage(1, 3, 8, 208));
        Fails("step", () => p.ReshapeImage(1, 3, 8, 7));
        Fails("length", () => p.Run(first));
        Fails("picture", () => p.Detect(picture, 8, 5));
        Fails("shape", () => p.Shape = 10201);
        Fails("threads", () => p.SetThreads(3));
        p.Dispose();
        Fails("closed", () => p.Shape = 0);
        Fails("closed", () => p.ReshapeImage(1, 3, 8, 8));
        Fails("closed", () => p.SetThreads(1));
        Fails("closed", () => p.Detect(picture, 7, 5));
    }

    static void Fails(string name, Action action)
    {
        try
        {
            action();
            Console.WriteLine(name + ": no error");
        }
        catch (Exception e)
        {
            Console.WriteLine(name + ": " + e.GetType().Name + " " + e.Message.Replace("\n", " "));
        }
    }
}
