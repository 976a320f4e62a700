// Uses dlpack.found.Predictor; what it prints is read by test_bindings_sets.py.
import dlpack.found.Predictor;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;

class Main {
  public static void main(String[] arguments) throws Exception {
    byte[] picture = Files.readAllBytes(Paths.get(arguments[0]));
    float[] first = new float[192];
    float[] second = new float[108];
    Arrays.fill(first, 1.5f);
    Arrays.fill(second, 2.5f);
    Predictor p = new Predictor();
    p.setThreads(2);
    p.reshapeImage(1, 3, 8, 8);
    float[] twice = p.run(first).twice;
    System.out.println("set " + p.getShape() + " " + twice.length + " " + twice[191]);
    p.setShape(0);
    twice = p.run(second).twice;
    System.out.println("set " + p.getShape() + " " + twice.length + " " + twice[107]);
    for (Predictor.Detection d : p.detect(picture, 7, 5, Predictor.THRESHOLD)) {
      System.out.println("found " + d.index + " " + d.label + " " + d.score + " " + d.x + " " + d.y + " " + d.width + " "
          + d.height);
    }
    System.out.println("sure " + p.detect(picture, 7, 5, 2).size());
    Predictor small = new Predictor(Predictor.memoryForImage(1, 3, 8, 8));
    small.reshapeImage(1, 3, 8, 8);
    System.out.println("small " + small.run(first).twice[191]);
    fails("memory", () -> small.reshapeImage(1, 3, 206, 206));
    fails("memory", () -> small.setShape(10200));
    small.close();
    fails("largest", () -> Predictor.memoryForImage(1, 3, 8, 7));
    fails("bounds", () -> p.reshapeImage(1, 3, 8, 208));
    fails("step", () -> p.reshapeImage(1, 3, 8, 7));
    fails("length", () -> p.run(first));
    fails("picture", () -> p.detect(picture, 8, 5, 0.5));
    fails("shape", () -> p.setShape(10201));
    fails("threads", () -> p.setThreads(3));
    p.close();
    fails("closed", () -> p.setShape(0));
    fails("closed", () -> p.reshapeImage(1, 3, 8, 8));
    fails("closed", () -> p.setThreads(1));
    fails("closed", () -> p.detect(picture, 7, 5, 0.5));
  }

  static void fails(String name, Runnable action) {
    try {
      action.run();
      System.out.println(name + ": no error");
    } catch (RuntimeException e) {
      System.out.println(name + ": " + e.getClass().getSimpleName() + " " + e.getMessage());
    }
  }
}
