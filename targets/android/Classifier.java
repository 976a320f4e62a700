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
 * Tells what is in a picture, by the neural network @name@. It scales and crops pictures as the network wants them.
 *
 * <p>Several threads may call one classifier, which serves them in turn. Close it.
 */
public final class Classifier implements Closeable {
  private final Predictor predictor;

//@ if asset
  /** @throws IOException where the asset with the weights is missing */
  public Classifier(AssetManager assets) throws IOException {
    this(new Predictor(assets));
  }
//@ else
  public Classifier() {
    this(new Predictor());
  }
//@ end

  /** Classifies by this predictor, and closes it when it is closed itself. */
  public Classifier(Predictor predictor) {
    this.predictor = predictor;
  }

  /** The five likeliest classes, the likeliest first. */
  public List<Predictor.Classification> classify(Bitmap bitmap) {
    return classify(Picture.of(bitmap), 5);
  }

  /**
   * The likeliest classes of what is in a buffer of bytes R, G, B, A; see {@link Picture#of(ByteBuffer, int, int, int,
   * int)}.
   */
  public List<Predictor.Classification> classify(
      ByteBuffer rgba, int width, int height, int stride, int degrees, int count) {
    return classify(Picture.of(rgba, width, height, stride, degrees), count);
  }

  /**
   * The likeliest classes, the likeliest first.
   *
   * @param count how many; fewer come where the network has fewer classes
   * @throws IllegalArgumentException for a count below 1
   * @throws IllegalStateException for a classifier that is closed
   */
  public List<Predictor.Classification> classify(Picture picture, int count) {
    return predictor.classify(picture.rgb, picture.width, picture.height, count);
  }

  @Override
  public void close() {
    predictor.close();
  }
}
