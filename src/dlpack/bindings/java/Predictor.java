package dlpack.@package@;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
//@ if classes
import java.util.ArrayList;
import java.util.List;
//@ end

/**
 * The neural network @name@. @about@
 *
 * <p>Several threads may call one predictor, which serves them in turn; to compute at the same time make one for each.
 * Close it: it holds memory that the garbage collector does not know of.
 */
public final class Predictor implements AutoCloseable {
  private long handle;

  /** What a run gives, row-major. */
  public static final class Outputs {
    @fields@
  }

//@ if classes
  /** A class: its place in the output, its name (the place in digits where it has none) and its probability. */
  public static final class Classification {
    public final int index;
    public final String label;
    public final float probability;

    Classification(int index, String label, float probability) {
      this.index = index;
      this.label = label;
      this.probability = probability;
    }
  }

//@ end
//@ if side
  /**
   * Maps the weights, the file @weights@ of the bundle.
   *
   * @throws IllegalStateException where they are missing or damaged
   */
  public Predictor(String weights) {
    long[] made = new long[1];
    check(create((weights + "\0").getBytes(StandardCharsets.UTF_8), made));
//@ else
  /** @throws IllegalStateException without memory, or on a processor that lacks what the code was compiled for */
  public Predictor() {
    long[] made = new long[1];
    check(create(made));
//@ end
    handle = made[0];
  }

  /**
   * Computes all outputs.
   *
   @input_docs@
   * @throws IllegalArgumentException for an input of a wrong length
   * @throws IllegalStateException for a predictor that is closed
   */
  public synchronized Outputs run(@parameters@) {
    opened();
    @check_inputs@
    @set_inputs@
    check(compute(handle));
    Outputs outputs = new Outputs();
    @get_outputs@
    return outputs;
  }
//@ if pictures

  /**
   * The likeliest classes of a picture, the likeliest first.
   *
   * @param rgb height rows of width pixels, the bytes R, G, B of each
   * @throws IllegalArgumentException where it has not as many bytes as 3 x width x height
   */
  public synchronized List<Classification> classify(byte[] rgb, int width, int height, int count) {
    opened();
    if (width < 1 || height < 1 || 3L * width * height != rgb.length) {
      throw new IllegalArgumentException(
          "the picture has " + rgb.length + " bytes; 3 x " + width + " x " + height + " are needed");
    }
    check(preprocess(handle, rgb, width, height));
    check(compute(handle));
    return top(count);
  }
//@ end
//@ if numbers

  /** The likeliest classes of the inputs that {@link #run} takes, the likeliest first. */
  public synchronized List<Classification> classify(@parameters@, int count) {
    run(@arguments@);
    return top(count);
  }
//@ end

  /** Gives the memory back. Closing twice is no error. */
  @Override
  public synchronized void close() {
    if (handle != 0) destroy(handle);
    handle = 0;
  }
//@ if classes

  private List<Classification> top(int count) {
    if (count < 1) throw new IllegalArgumentException("count is " + count + "; at least one class can be asked for");
    int[] indices = new int[Math.min(count, @classes@)];
    float[] probabilities = new float[indices.length];
    byte[][] labels = new byte[indices.length][];
    check(topK(handle, indices, probabilities, labels));
    List<Classification> classes = new ArrayList<>();
    for (int i = 0; i < indices.length; ++i) {
      String label = labels[i] == null ? String.valueOf(indices[i]) : new String(labels[i], StandardCharsets.UTF_8);
      classes.add(new Classification(indices[i], label, probabilities[i]));
    }
    return classes;
  }
//@ end

  private void opened() {
    if (handle == 0) throw new IllegalStateException("the predictor is closed");
  }

  private static void length(int elements, int wanted, String what) {
    if (elements < 0) throw new NullPointerException(what + " is null");
    if (elements != wanted) {
      throw new IllegalArgumentException(what + " has " + elements + " elements; " + wanted + " are needed");
    }
  }

  private static void check(int status) {
    if (status != 0) throw new IllegalStateException(new String(errorText(status), StandardCharsets.UTF_8));
  }

//@ if side
  private static native int create(byte[] path, long[] handle);
//@ else
  private static native int create(long[] handle);
//@ end

  private static native void destroy(long handle);

  private static native byte[] errorText(int status);

  private static native int setInput(long handle, int index, Object array, int bytes);

  private static native int compute(long handle);

  private static native int getOutput(long handle, int index, Object array, int bytes);
//@ if pictures

  private static native int preprocess(long handle, byte[] rgb, int width, int height);
//@ end
//@ if classes

  private static native int topK(long handle, int[] indices, float[] probabilities, byte[][] labels);
//@ end

  static {
    load();
  }

  /** Loads the library where the system finds it (an Android package), else from this package's resources. */
  private static void load() {
    try {
      System.loadLibrary("@name@_jni");
    } catch (UnsatisfiedLinkError notInstalled) {
      try (InputStream library = Predictor.class.getResourceAsStream("@library@")) {
        if (library == null) throw notInstalled;
        File file = File.createTempFile("@name@", "@library@");
        file.deleteOnExit();
        Files.copy(library, file.toPath(), StandardCopyOption.REPLACE_EXISTING);
        System.load(file.getAbsolutePath());
      } catch (IOException e) {
        throw new IllegalStateException("@library@ cannot be unpacked: " + e.getMessage(), e);
      }
    }
  }
}
