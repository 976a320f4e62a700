import dlpack.writer.Predictor;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.stream.Collectors;
import java.util.stream.LongStream;

class Main {
  static String told(String text) {
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    int sum = 0;
    for (byte b : utf8) sum += b & 0xff;
    return utf8.length + " " + sum;
  }

  static String joined(LongStream numbers) {
    return numbers.mapToObj(String::valueOf).collect(Collectors.joining(" "));
  }

  static Predictor.Generation drawn(int most) {
    Predictor.Generation how = new Predictor.Generation();
    how.maxTokens = most;
    how.temperature = 1.2f;
    how.topK = 50;
    how.topP = 0.95f;
    how.seed = 7;
    return how;
  }

  static void refused(String name, Runnable call) {
    try {
      call.run();
      System.out.println(name + ": no error");
    } catch (RuntimeException e) {
      System.out.println(name + ": " + e.getMessage());
    }
  }

  public static void main(String[] arguments) {
    String prompt = arguments[0];
    Predictor predictor = new Predictor();
    int[] ids = predictor.tokenize(prompt, true);
    long[] tokens = Arrays.stream(ids).asLongStream().toArray();
    System.out.println("ids " + joined(Arrays.stream(tokens)));
    System.out.println("back " + predictor.detokenize(ids, false));
    System.out.println("plain " + predictor.tokenize(prompt, false).length);
    System.out.println("tokens " + joined(Arrays.stream(predictor.generate(tokens, drawn(6), null))));
    int[] pieces = {0};
    String text = predictor.write(prompt, drawn(20), piece -> ++pieces[0] == 0);
    System.out.println("text " + told(text) + " " + pieces[0]);
    System.out.println("first " + told(predictor.write(prompt, drawn(20), piece -> true)));
    predictor.write(prompt, drawn(5), null);
    Predictor.Generation how = new Predictor.Generation();
    how.maxTokens = 4;
    how.keep = true;
    System.out.println("kept " + told(predictor.write("and", how, null)));
    how.maxTokens = 99;
    how.keep = false;
    how.stop = new long[0];
    try {
      predictor.write(prompt, how, null);
    } catch (Predictor.FullException e) {
      System.out.println("full: " + e.getMessage() + "\nwritten " + told(e.text));
    }
    try {
      predictor.generate(tokens, how, null);
    } catch (Predictor.FullException e) {
      System.out.println("made " + e.tokens.length);
    }
    refused("long", () -> predictor.tokenize(new String(new char[40000]), true));
    refused("empty", () -> predictor.generate(new long[0], how, null));
    refused("token", () -> predictor.generate(new long[] {9999}, how, null));
    Predictor.Generation wrong = drawn(1);
    wrong.topP = 2;
    refused("sampler", () -> predictor.write(prompt, wrong, null));
    refused("callback", () -> predictor.write(prompt, how, piece -> {
      throw new IllegalStateException("of its own");
    }));
    refused("nested", () -> predictor.write(prompt, how, piece -> {
      predictor.close();
      return predictor.tokenize("a", true).length > 0;
    }));
    predictor.close();
    refused("closed", () -> predictor.tokenize(prompt, true));
  }
}
