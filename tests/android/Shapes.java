import dlpack.several.Predictor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Computes an input in each set of shapes, on one thread and on all, and errs: a FILE of floats for each set. */
class Shapes {
  public static void main(String[] arguments) throws Exception {
    Predictor predictor = new Predictor();
    for (int turn = 0; turn < 3; ++turn) {
      for (int threads : new int[] {1, Predictor.THREADS, 2}) {
        predictor.setThreads(threads);
        for (int number = 0; number < Predictor.SHAPES; ++number) {
          byte[] raw = Files.readAllBytes(Paths.get(arguments[number]));
          float[] image = new float[raw.length / 4];
          ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image);
          predictor.setShape(number);
          Predictor.Outputs outputs = predictor.run(image);
          if (predictor.getShape() != number) throw new AssertionError();
          System.out.println("names " + threadNames());
          float[] last = predictor.run(image).c4;
          for (int k = 0; k < last.length; ++k) if (last[k] != outputs.c4[k]) throw new AssertionError("c4 " + k);
          for (float score : outputs.scores) System.out.println("scores" + number + " " + score);
          for (float value : outputs.c4) System.out.println("c4" + number + " " + value);
        }
      }
    }
    predictor.setShape(0);
    fails("length", () -> predictor.run(new float[3]));
    fails("shape", () -> predictor.setShape(Predictor.SHAPES));
    fails("shape", () -> predictor.setShape(-1));
    fails("threads", () -> predictor.setThreads(0));
    fails("threads", () -> predictor.setThreads(Predictor.THREADS + 1));
    for (int k = 0; k < 50; ++k) {
      try (Predictor another = new Predictor()) {
        another.setThreads(Predictor.THREADS);
      }
    }
    predictor.setThreads(2);
    predictor.close();
    predictor.close();
    fails("closed", () -> predictor.setShape(0));
    fails("closed", () -> predictor.setThreads(1));
    System.out.println("left " + threadNames());
  }

  /** How many threads compute for predictors. */
  static long threadNames() {
    return Thread.getAllStackTraces().keySet().stream().filter(t -> t.getName().startsWith("several ")).count();
  }

  static void fails(String name, Runnable action) {
    try {
      action.run();
      System.out.println(name + " no error");
    } catch (IllegalArgumentException | IllegalStateException e) {
      System.out.println(name + " " + e.getClass().getSimpleName() + " " + e.getMessage());
    }
  }
}
