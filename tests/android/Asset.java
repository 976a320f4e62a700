import android.content.res.AssetManager;
import dlpack.digits.Predictor;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Opens assets in folders that the arguments name; what it prints is read by test_android.py. */
class Asset {
  static float[] image;

  public static void main(String[] arguments) throws Exception {
    byte[] raw = Files.readAllBytes(Paths.get(arguments[0]));
    image = new float[raw.length / 4];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image);
    File whole = new File(arguments[1]), shifted = new File(arguments[2]), cut = new File(arguments[3]);
    run("mapped", new AssetManager(whole, 0, false));
    run("misaligned", new AssetManager(shifted, 4, false));
    run("compressed", new AssetManager(whole, 0, true));
    run("missing", new AssetManager(new File("/nowhere"), 0, false));
    run("short", new AssetManager(cut, 0, false));
    run("cut", new AssetManager(cut, 0, true));
    try {
      new Predictor(ByteBuffer.allocate(16)).close();
      System.out.println("heap no error");
    } catch (IllegalArgumentException e) {
      System.out.println("heap " + e.getMessage());
    }
  }

  static void run(String name, AssetManager assets) {
    for (int times = 0; times < 2; ++times) {
      try (Predictor predictor = new Predictor(assets)) {
        for (float p : predictor.run(image).probability) System.out.println(name + " " + p);
      } catch (IOException | IllegalStateException e) {
        System.out.println(name + " " + e.getClass().getSimpleName() + " " + e.getMessage());
      }
    }
  }
}
