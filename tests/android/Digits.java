import android.graphics.Bitmap;
import dlpack.digits.Classifier;
import dlpack.digits.Picture;
import dlpack.digits.Predictor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.List;

/** Uses the classes of the AAR; what it prints is read by test_android.py. */
class Digits {
  public static void main(String[] arguments) throws Exception {
    byte[] raw = Files.readAllBytes(Paths.get(arguments[0]));
    byte[] rgb = Files.readAllBytes(Paths.get(arguments[1]));
    float[] image = new float[raw.length / 4];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image);
    Predictor predictor = new Predictor();
    for (float p : predictor.run(image).probability) System.out.println("run " + p);
    for (float p : predictor.runPicture(rgb, 8, 8).probability) System.out.println("picture " + p);
    Classifier classifier = new Classifier(predictor);
    Picture upright = new Picture(rgb, 8, 8);
    show("class", classifier.classify(upright, 5));
    show("bitmap", classifier.classify(bitmap(rgb, 255, Bitmap.Config.ARGB_8888)));
    show("hardware", classifier.classify(bitmap(rgb, 255, Bitmap.Config.HARDWARE)));
    show("transparent", classifier.classify(bitmap(rgb, 100, Bitmap.Config.ARGB_8888)));
    for (int degrees = 0; degrees < 360; degrees += 90) {
      show("turned" + degrees, classifier.classify(turned(upright, degrees), 8, 8, 40, degrees, 5));
    }
    System.out.println("wide " + java.util.Arrays.toString(wide(90)) + " " + java.util.Arrays.toString(wide(180)));
    ByteBuffer buffer = ByteBuffer.allocate(256);
    fails("length", () -> predictor.run(new float[3]));
    fails("missing", () -> predictor.run(null));
    fails("pixels", () -> new Picture(rgb, 9, 8));
    fails("buffer", () -> classifier.classify(buffer, 8, 8, 40, 0, 5));
    fails("stride", () -> classifier.classify(buffer, 8, 8, 31, 0, 5));
    fails("degrees", () -> classifier.classify(buffer, 8, 8, 32, 45, 5));
    fails("huge", () -> Picture.of(ByteBuffer.allocate(1), 1 << 16, 1 << 16, 1 << 18, 0));
    fails("count", () -> classifier.classify(upright, 0));
    classifier.close();
    classifier.close();
    fails("closed", () -> predictor.run(image));
    fails("closed", () -> classifier.classify(upright, 5));
  }

  static Bitmap bitmap(byte[] rgb, int alpha, Bitmap.Config config) {
    int[] argb = new int[rgb.length / 3];
    for (int i = 0; i < argb.length; ++i) {
      argb[i] = alpha << 24 | (rgb[3 * i] & 255) << 16 | (rgb[3 * i + 1] & 255) << 8 | rgb[3 * i + 2] & 255;
    }
    return new Bitmap(argb, 8, config);
  }

  /** A square picture turned counterclockwise, in rows of R, G, B, A with 8 bytes between them. */
  static ByteBuffer turned(Picture picture, int degrees) {
    ByteBuffer buffer = ByteBuffer.allocateDirect(40 * 8 - 8);
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        int toX = degrees == 0 ? x : degrees == 90 ? y : degrees == 180 ? 7 - x : 7 - y;
        int toY = degrees == 0 ? y : degrees == 90 ? 7 - x : degrees == 180 ? 7 - y : x;
        for (int c = 0; c < 3; ++c) buffer.put(40 * toY + 4 * toX + c, picture.rgb[3 * (8 * y + x) + c]);
        buffer.put(40 * toY + 4 * toX + 3, (byte) 255);
      }
    }
    return buffer;
  }

  /** The reds of a picture of two rows, 1 2 3 over 4 5 6, turned; its size stands before them. */
  static int[] wide(int degrees) {
    ByteBuffer buffer = ByteBuffer.allocate(24);
    for (int i = 0; i < 6; ++i) buffer.put(4 * i, (byte) (i + 1)).put(4 * i + 3, (byte) 255);
    Picture picture = Picture.of(buffer, 3, 2, 12, degrees);
    int[] out = new int[8];
    out[0] = picture.width;
    out[1] = picture.height;
    for (int i = 0; i < 6; ++i) out[2 + i] = picture.rgb[3 * i];
    return out;
  }

  static void show(String name, List<Predictor.Classification> classes) {
    for (Predictor.Classification c : classes) {
      System.out.println(name + " " + c.index + " " + c.label + " " + c.probability);
    }
  }

  static void fails(String name, Runnable action) {
    try {
      action.run();
      System.out.println(name + " no error");
    } catch (RuntimeException e) {
      System.out.println(name + " " + e.getClass().getSimpleName() + " " + e.getMessage());
    }
  }
}
