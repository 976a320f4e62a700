import dlpack.found.Detector;
import dlpack.found.Picture;
import dlpack.found.Predictor;
import java.nio.file.Files;
import java.nio.file.Paths;

/** Prints what a detector finds in a picture: RGB FILE, WIDTH, HEIGHT. */
class Detect {
  public static void main(String[] arguments) throws Exception {
    byte[] rgb = Files.readAllBytes(Paths.get(arguments[0]));
    Picture picture = new Picture(rgb, Integer.parseInt(arguments[1]), Integer.parseInt(arguments[2]));
    try (Detector detector = new Detector()) {
      for (Predictor.Detection d : detector.detect(picture, Predictor.THRESHOLD)) {
        System.out.println(
            d.index + " " + d.label + " " + d.score + " " + d.x + " " + d.y + " " + d.width + " " + d.height);
      }
    }
  }
}
