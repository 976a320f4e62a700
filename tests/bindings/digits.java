// Uses dlpack.digits.Predictor; what it prints is read by test_bindings.py.
import dlpack.digits.Predictor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;

class Main {
  public static void main(String[] arguments) throws Exception {
    byte[] raw = Files.readAllBytes(Paths.get(arguments[0]));
    byte[] picture = Files.readAllBytes(Paths.get(arguments[1]));
    float[] image = new float[raw.length / 4];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image);
    Predictor predictor = new Predictor();
    for (float p : predictor.run(image).probability) System.out.println("run " + p);
    for (Predictor.Classification c : predictor.classify(picture, 8, 8, 3)) {
      System.out.println("class " + c.index + " " + c.label + " " + c.probability);
    }
    fails("length", () -> predictor.run(new float[3]));
    fails("missing", () -> predictor.run(null));
    fails("picture", () -> predictor.classify(picture, 9, 8, 3));
    fails("count", () -> predictor.classify(picture, 8, 8, 0));
    predictor.close();
    fails("closed", () -> predictor.run(image));
    fails("closed", () -> predictor.classify(picture, 8, 8, 3));
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
