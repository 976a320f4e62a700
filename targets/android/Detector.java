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
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Finds things in pictures, by the neural network @name@. It scales and crops pictures as the network wants them.
 *
 * <p>Several threads may call one detector, which serves them in turn. Close it.
 */
public final class Detector implements Closeable {
  /** The default minimum score of a detection. */
  public static final double THRESHOLD = @threshold@;

  private static final double IOU = @iou@;  // boxes of one class that overlap by more are one thing
  private static final int MOST = @most@;
  private static final int INPUT_WIDTH = @input_width@;
  private static final int INPUT_HEIGHT = @input_height@;
  private static final int RESIZE = @resize@;  // of the picture's shorter side, before the middle is cut out; 0: none

  private final Predictor predictor;

  /** A box in the picture: its upper left corner and size in pixels, and its class. */
  public static final class Detection {
    public final int index;
    public final String label;
    public final float score;
    public final float x;
    public final float y;
    public final float width;
    public final float height;

    Detection(int index, double score, double x, double y, double width, double height) {
      this.index = index;
//@ if labels
      this.label = Predictor.labelOf(index);
//@ else
      this.label = String.valueOf(index);
//@ end
      this.score = (float) score;
      this.x = (float) x;
      this.y = (float) y;
      this.width = (float) width;
      this.height = (float) height;
    }
  }

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
  public List<Detection> detect(Bitmap bitmap) {
    return detect(Picture.of(bitmap), THRESHOLD);
  }

  /**
   * What is in a buffer of bytes R, G, B, A, in pixels of the picture as it is turned; see {@link
   * Picture#of(ByteBuffer, int, int, int, int)}.
   */
  public List<Detection> detect(ByteBuffer rgba, int width, int height, int stride, int degrees) {
    return detect(Picture.of(rgba, width, height, stride, degrees), THRESHOLD);
  }

  /**
   * What is in a picture, the surest first.
   *
   * @param threshold the least score
   * @throws IllegalStateException for a detector that is closed
   */
  public List<Detection> detect(Picture picture, double threshold) {
    Predictor.Outputs outputs = predictor.runPicture(picture.rgb, picture.width, picture.height);
    List<Candidate> candidates = new ArrayList<>();
    decode(outputs, threshold, candidates);
    List<Detection> found = new ArrayList<>();
    for (Candidate c : suppressed(candidates)) {
      double x = along(c.left, INPUT_WIDTH, picture.width, picture);
      double y = along(c.top, INPUT_HEIGHT, picture.height, picture);
      double width = along(c.right, INPUT_WIDTH, picture.width, picture) - x;
      double height = along(c.bottom, INPUT_HEIGHT, picture.height, picture) - y;
      if (width > 0 && height > 0) found.add(new Detection(c.index, c.score, x, y, width, height));
    }
    return found;
  }

  @Override
  public void close() {
    predictor.close();
  }

  /** A box relative to the input, its likeliest class and the score of that. */
  private static final class Candidate {
    final int index;
    final double score;
    final double left;
    final double top;
    final double right;
    final double bottom;

    Candidate(int index, double score, double left, double top, double right, double bottom) {
      this.index = index;
      this.score = score;
      this.left = left;
      this.top = top;
      this.right = right;
      this.bottom = bottom;
    }

    /** Intersection over union. */
    double overlap(Candidate other) {
      double across = Math.max(0, Math.min(right, other.right) - Math.max(left, other.left));
      double down = Math.max(0, Math.min(bottom, other.bottom) - Math.max(top, other.top));
      double union = (right - left) * (bottom - top) + (other.right - other.left) * (other.bottom - other.top)
          - across * down;
      return union > 0 ? across * down / union : 0;
    }
  }

  /** Of boxes of one class that overlap, the one with the highest score. */
  private static List<Candidate> suppressed(List<Candidate> candidates) {
    Collections.sort(candidates, (a, b) -> Double.compare(b.score, a.score));
    List<Candidate> kept = new ArrayList<>();
    for (Candidate c : candidates) {
      if (kept.size() == MOST) break;
      boolean alone = true;
      for (Candidate k : kept) alone = alone && (k.index != c.index || k.overlap(c) <= IOU);
      if (alone) kept.add(c);
    }
    return kept;
  }

  /** A place relative to a side of the input, in pixels of the picture's side. */
  private static double along(double part, int side, int size, Picture picture) {
    long shorter = Math.min(picture.width, picture.height);
    long scaled = RESIZE == 0 ? side : (2L * size * RESIZE + shorter) / (2 * shorter);
    return Math.min(size, Math.max(0, ((scaled - side) / 2 + part * side) * size / scaled));
  }

//@ if scored
  private static final int COUNT = @count@;
  private static final int CLASSES = @class_count@;
  private static final int BACKGROUND = @background@;

  private static void decode(Predictor.Outputs outputs, double threshold, List<Candidate> found) {
    double[] scores = @scores_output@;
    double[] boxes = @boxes_output@;
//@ if anchors
    double[] anchors = anchors();
//@ end
    for (int n = 0; n < COUNT; ++n) {
      int index = -1;
      double score = Double.NEGATIVE_INFINITY;
      for (int c = 0; c < CLASSES; ++c) {
        double value = scores[n * CLASSES + c];
        if (c != BACKGROUND && value > score) {
          index = c;
          score = value;
        }
      }
      if (!(score >= threshold)) continue;
      int at = 4 * n;
//@ if anchors
      double x = anchors[at] + boxes[at] * VARIANCE_0 * anchors[at + 2];
      double y = anchors[at + 1] + boxes[at + 1] * VARIANCE_0 * anchors[at + 3];
      double w = anchors[at + 2] * Math.exp(boxes[at + 2] * VARIANCE_1) / 2;
      double h = anchors[at + 3] * Math.exp(boxes[at + 3] * VARIANCE_1) / 2;
      found.add(new Candidate(index, score, x - w, y - h, x + w, y + h));
//@ else
      found.add(
          new Candidate(
              index, score, boxes[at] / UNIT_X, boxes[at + 1] / UNIT_Y, boxes[at + 2] / UNIT_X, boxes[at + 3] / UNIT_Y));
//@ end
    }
  }
//@ end
//@ if anchors

  private static final double VARIANCE_0 = @variance_0@;
  private static final double VARIANCE_1 = @variance_1@;
  private static final boolean CLIP = @clip@;
  private static final double[] STRIDES = {@strides@};
  private static final double[][] SIZES = {@sizes@};  // width, height, width, height ... of each level

  /** Centre and size of each box's anchor, relative to the input. */
  private static double[] anchors() {
    double[] all = new double[4 * COUNT];
    int at = 0;
    for (int level = 0; level < STRIDES.length; ++level) {
      double stride = STRIDES[level];
      double[] sizes = SIZES[level];
      for (int row = 0; row < Math.ceil(INPUT_HEIGHT / stride); ++row) {
        for (int column = 0; column < Math.ceil(INPUT_WIDTH / stride); ++column) {
          for (int k = 0; k < sizes.length; k += 2) {
            all[at++] = cut((column + 0.5) * stride / INPUT_WIDTH);
            all[at++] = cut((row + 0.5) * stride / INPUT_HEIGHT);
            all[at++] = cut(sizes[k] / INPUT_WIDTH);
            all[at++] = cut(sizes[k + 1] / INPUT_HEIGHT);
          }
        }
      }
    }
    return all;
  }

  private static double cut(double value) {
    return CLIP ? Math.min(1, Math.max(0, value)) : value;
  }
//@ end
//@ if corners

  private static final double UNIT_X = @unit_x@;
  private static final double UNIT_Y = @unit_y@;
//@ end
//@ if grid
  private static final int CHANNELS = @channels@;
  private static final int ROWS = @rows@;
  private static final int COLUMNS = @columns@;

  private static void decode(Predictor.Outputs outputs, double threshold, List<Candidate> found) {
    double[] values = @output@;
    int cells = ROWS * COLUMNS;
    for (int n = 0; n < cells; ++n) {
      int index = -1;
      double share = Double.NEGATIVE_INFINITY;
      for (int c = 5; c < CHANNELS; ++c) {
        if (values[c * cells + n] > share) {
          index = c - 5;
          share = values[c * cells + n];
        }
      }
      double score = Math.pow(values[n], 0.6) * Math.pow(share, 0.4);
      if (!(score >= threshold)) continue;
      double x = (n % COLUMNS + Math.tanh(values[cells + n])) / COLUMNS;
      double y = (n / COLUMNS + Math.tanh(values[2 * cells + n])) / ROWS;
      double w = 0.5 / (1 + Math.exp(-values[3 * cells + n]));
      double h = 0.5 / (1 + Math.exp(-values[4 * cells + n]));
      found.add(new Candidate(index, score, x - w, y - h, x + w, y + h));
    }
  }
//@ end
//@ if rows
  private static final int LENGTH = @length@;
  private static final int BACKGROUND = @background@;

  private static void decode(Predictor.Outputs outputs, double threshold, List<Candidate> found) {
    double[] values = @output@;
    for (int at = LENGTH - 6; at < values.length; at += LENGTH) {
      int index = (int) values[at];
      double score = values[at + 1];
      if (index < 0 || index == BACKGROUND || !(score >= threshold)) continue;
      found.add(new Candidate(index, score, values[at + 2], values[at + 3], values[at + 4], values[at + 5]));
    }
  }
//@ end

  @real@
}
