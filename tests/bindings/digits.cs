// Uses Predictor.cs; what it prints is read by test_bindings.py.
using System;
using System.Globalization;
using System.IO;
using Digits;

static class Program
{
    static void Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        var raw = File.ReadAllBytes(arguments[0]);
        var picture = File.ReadAllBytes(arguments[1]);
        var image = new float[raw.Length / 4];
        Buffer.BlockCopy(raw, 0, image, 0, raw.Length);
        using (var predictor = new Predictor())
        {
            foreach (var p in predictor.Run(image).Probability) Console.WriteLine("run {0:R}", p);
            foreach (var c in predictor.Classify(picture, 8, 8, 3))
                Console.WriteLine("class {0} {1} {2:R}", c.Index, c.Label, c.Probability);
            Fails("length", () => predictor.Run(new float[3]));
            Fails("missing", () => predictor.Run(null));
            Fails("picture", () => predictor.Classify(picture, 9, 8));
            Fails("count", () => predictor.Classify(picture, 8, 8, 0));
            predictor.Dispose();
            Fails("closed", () => predictor.Run(image));
            Fails("closed", () => predictor.Classify(picture, 8, 8));
        }
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
