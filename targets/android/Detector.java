package dlpack.@package@;

//@ if asset
import android.content.res.AssetManager;
//@ end
import android.graphics.Bitmap;
import java.io.Closeable;
//@ if asset
import java.io.IOException;
//@ end
import java.nio.ByteBuffer;
import java.util.List;

/**
 * Finds things in pictures, by the neural network @name@. It scales and crops pictures as the network wants them.
 *
 * <p>Several threads may call one detector, which serves them in turn. Close it.
 */
public final class Detector implements Closeable {
  private final Predictor predictor;

//@ if asset
  /** @throws IOException where the asset with the weights is missing */
  public Detector(AssetManager assets) throws IOException {
    this(new Predictor(assets));
  }
//@ else
  public Detector() {
    this(new Predictor());
  }
//@ end

  /** Detects by this predictor, and closes it when it is closed itself. */
  public Detector(Predictor predictor) {
    this.predictor = predictor;
  }

  /** What is in a picture, the surest first. */
  public List<Predictor.Detection> detect(Bitmap bitmap) {
    return detect(Picture.of(bitmap), Predictor.THRESHOLD);
  }

  /**
   * What is in a buffer of bytes R, G, B, A, in pixels of the picture as it is turned; see {@link
   * Picture#of(ByteBuffer, int, int, int, int)}.
   */
  public List<Predictor.Detection> detect(ByteBuffer rgba, int width, int height, int stride, int degrees) {
    return detect(Picture.of(rgba, width, height, stride, degrees), Predictor.THRESHOLD);
  }

  /**
   * What is in a picture, the surest first.
   *
   * @param threshold the least score
   * @throws IllegalStateException for a detector that is closed
   */
  public List<Predictor.Detection> detect(Picture picture, double threshold) {
    return predictor.detect(picture.rgb, picture.width, picture.height, threshold);
  }

  @Override
  public void close() {
    predictor.close();
  }
}
