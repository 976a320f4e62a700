using System;
using System.Linq;
using System.Text;
using Writer;

static class Program
{
    static string Told(string text) => $"{Encoding.UTF8.GetByteCount(text)} {Encoding.UTF8.GetBytes(text).Sum(b => b)}";

    static Generation Drawn(int most) =>
        new Generation { MaxTokens = most, Temperature = 1.2f, TopK = 50, TopP = 0.95f, Seed = 7 };

    static void Refused(string name, Action call)
    {
        try { call(); Console.WriteLine($"{name}: no error"); }
        catch (Exception e) { Console.WriteLine($"{name}: {e.Message}"); }
    }

    static void Main(string[] arguments)
    {
        var prompt = arguments[0];
        var predictor = new Predictor();
        var ids = predictor.Tokenize(prompt);
        var tokens = ids.Select(id => (long)id).ToArray();
        Console.WriteLine("ids " + string.Join(" ", ids));
        Console.WriteLine("back " + predictor.Detokenize(ids));
        Console.WriteLine("plain " + predictor.Tokenize(prompt, special: false).Length);
        Console.WriteLine("tokens " + string.Join(" ", predictor.Generate(tokens, Drawn(6))));
        var pieces = 0;
        var text = predictor.Write(prompt, Drawn(20), piece => { ++pieces; return false; });
        Console.WriteLine($"text {Told(text)} {pieces}");
        Console.WriteLine("first " + Told(predictor.Write(prompt, Drawn(20), piece => true)));
        predictor.Write(prompt, Drawn(5));
        Console.WriteLine("kept " + Told(predictor.Write("and", new Generation { MaxTokens = 4, Keep = true })));
        try { predictor.Write(prompt, new Generation { MaxTokens = 99, Stop = new long[0] }); }
        catch (FullException e) { Console.WriteLine($"full: {e.Message}\nwritten {Told(e.Text)}"); }
        try { predictor.Generate(tokens, new Generation { MaxTokens = 99 }); }
        catch (FullException e) { Console.WriteLine($"made {e.Tokens.Count}"); }
        Refused("long", () => predictor.Tokenize(new string('a', 40000)));
        Refused("empty", () => predictor.Generate(new long[0]));
        Refused("token", () => predictor.Generate(new long[] { 9999 }));
        Refused("sampler", () => predictor.Write(prompt, new Generation { Temperature = 1, TopP = 2 }));
        Refused("callback", () => predictor.Write(prompt, null, piece => throw new Exception("of its own")));
        Refused("nested", () => predictor.Write(prompt, null, piece => predictor.Write(prompt) == ""));
        predictor.Dispose();
        Refused("closed", () => predictor.Tokenize(prompt));
    }
}
