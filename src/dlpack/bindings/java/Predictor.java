package dlpack.@package@;

//@ if asset
import android.content.res.AssetManager;
import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
//@ else
import java.io.Closeable;
//@ end
import java.nio.charset.StandardCharsets;
//@ if lists
import java.util.ArrayList;
//@ end
//@ if arrays
import java.util.Arrays;
//@ end
//@ if lists
import java.util.List;
//@ end

/**
 * The model @name@. @about@
 *
 * <p>Several threads may call one predictor, which serves them in turn; to compute at the same time make one for each.
 * Close it: it holds memory that the garbage collector does not know of.
 */
public final class Predictor implements Closeable {
//@ if asset
  private final Weights weights;
//@ end
  private long handle;
//@ if shapes

  /** How many sets of shapes inputs and outputs may have; see {@link #setShape}. */
  public static final int SHAPES = @shape_count@;
//@ end
//@ if threads

  /** The most threads that it computes on; see {@link #setThreads}. */
  public static final int THREADS = @threads@;
//@ if android

  private final List<Thread> workers = new ArrayList<>();
//@ end
//@ end

  /** What a run gives, row-major. */
  public static final class Outputs {
    @fields@
//@ if shapes

    Outputs(long handle) {
      @make_fields@
    }
//@ end
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
//@ if boxes
  /** The least score of a detection, unless another is asked for. */
  public static final double THRESHOLD = @threshold@;

  /** A box in a picture: its upper left corner and size in pixels, its class (the place in digits without a name). */
  public static final class Detection {
    public final int index;
    public final String label;
    public final float score;
    public final float x;
    public final float y;
    public final float width;
    public final float height;

    Detection(int index, float[] numbers, int at) {
      this.index = index;
//@ if labels
      byte[] name = label(index);
      this.label = name == null ? String.valueOf(index) : new String(name, StandardCharsets.UTF_8);
//@ else
      this.label = String.valueOf(index);
//@ end
      this.score = numbers[at];
      this.x = numbers[at + 1];
      this.y = numbers[at + 2];
      this.width = numbers[at + 3];
      this.height = numbers[at + 4];
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
//@ if open
    this(weights, 0);
  }

  /**
   * Maps the weights, the file @weights@ of the bundle.
   *
   @memory_docs@
   * @throws IllegalStateException where they are missing or damaged
   */
  public Predictor(String weights, long memory) {
//@ end
    long[] made = new long[1];
    check(create((weights + "\0").getBytes(StandardCharsets.UTF_8), made@memory@));
//@ else
//@ if asset
  /**
   * Maps the weights, the asset @weights@, or copies them where the app has compressed it.
   *
   * @throws IOException where the asset is missing
   * @throws IllegalStateException without memory, or where the asset is another model's
   */
  public Predictor(AssetManager assets) throws IOException {
    this(Weights.of(assets)@all@);
  }
//@ if open

  /**
   * The same with less memory.
   *
   @memory_docs@
   */
  public Predictor(AssetManager assets, long memory) throws IOException {
    this(Weights.of(assets), memory);
  }
//@ end

  /**
   * Takes weights from elsewhere, such as a file that the app has mapped.
   *
   * @param weights the content of @weights@ in a direct buffer that begins at a multiple of 16 bytes
   */
  public Predictor(ByteBuffer weights) {
    this(new Weights(weights, false)@all@);
  }
//@ if open

  /**
   * The same with less memory.
   *
   @memory_docs@
   */
  public Predictor(ByteBuffer weights, long memory) {
    this(new Weights(weights, false), memory);
  }
//@ end

  private Predictor(Weights weights@memory_parameter@) {
    this.weights = weights;
    long[] made = new long[1];
    int status = create(weights.data, made@memory@);
    if (status != 0) weights.close();
    check(status);
//@ else
  /** @throws IllegalStateException without memory, or on a processor that lacks what the code was compiled for */
  public Predictor() {
//@ if open
    this(0);
  }

  /**
   @memory_docs@
   * @throws IllegalStateException without memory, or on a processor that lacks what the code was compiled for
   */
  public Predictor(long memory) {
//@ end
    long[] made = new long[1];
    check(create(made@memory@));
//@ end
//@ end
    handle = made[0];
  }

//@ if shapes
  /** The number of the set of shapes that inputs and outputs have, at first 0. */
  public synchronized int getShape() {
    opened();
    return currentShape(handle);
  }

  /**
   * Chooses a set of shapes for what comes next:
   *
   * <ul>
   @shape_docs@
   * </ul>
   *
   * @throws IllegalArgumentException for a number that none has
   */
  public synchronized void setShape(int number) {
    opened();
    if (number < 0 || number >= SHAPES) {
      throw new IllegalArgumentException("set of shapes " + number + ": there are " + SHAPES + ", from 0 on");
    }
    check(chooseShape(handle, number));
  }
//@ if open

  @reshapes@

  private synchronized void reshape(int input, long[] extents, String what) {
    opened();
    int status = chooseExtents(handle, input, extents);
    if (status == 1) throw new IllegalArgumentException(what + ", not " + Arrays.toString(extents));
    check(status);
  }

  private static long memory(int input, long[] extents, String what) {
    long bytes = memoryFor(input, extents);
    if (bytes == 0) throw new IllegalArgumentException(what + ", not " + Arrays.toString(extents));
    return bytes;
  }
//@ end

//@ end
//@ if threads
  /**
//@ if android
   * Chooses on how many threads it computes, at first one.
//@ else
   * Chooses on how many threads it computes, at first as many as there are processors.
//@ end
   *
   * @throws IllegalArgumentException for a number below 1 or above {@link #THREADS}
   */
  public synchronized void setThreads(int count) {
    opened();
    if (count < 1 || count > THREADS) {
      throw new IllegalArgumentException(count + " threads: from 1 to " + THREADS + " can be chosen");
    }
//@ if android
    endWorkers();
    check(chooseThreads(handle, count));
    for (int k = 1; k < count; ++k) {
      final long own = handle;
      final int number = k;
      Thread worker = new Thread(() -> work(own, number), "@name@ " + k);
      worker.setDaemon(true);
      worker.start();
      workers.add(worker);
    }
  }

  /** Ends the threads but the caller's; what they compute on may be freed then. */
  private void endWorkers() {
    stop(handle);
    boolean interrupted = false;
    while (!workers.isEmpty()) {
      try {
        workers.get(0).join();
        workers.remove(0);
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) Thread.currentThread().interrupt();
  }
//@ else
    check(chooseThreads(handle, count));
  }
//@ end

//@ end
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
    return results();
  }

  private Outputs results() {
    Outputs outputs = new Outputs(@shape@);
    @get_outputs@
    return outputs;
  }
//@ if pictures

  /**
   * Computes all outputs for a picture.
   *
   * @param rgb height rows of width pixels, the bytes R, G, B of each
   * @throws IllegalArgumentException where it has not as many bytes as 3 x width x height
   */
  public synchronized Outputs runPicture(byte[] rgb, int width, int height) {
    computePicture(rgb, width, height);
    return results();
  }

  private void computePicture(byte[] rgb, int width, int height) {
    opened();
    if (width < 1 || height < 1 || 3L * width * height != rgb.length) {
      throw new IllegalArgumentException(
          "the picture has " + rgb.length + " bytes; 3 x " + width + " x " + height + " are needed");
    }
    check(preprocess(handle, rgb, width, height));
    check(compute(handle));
  }
//@ if classes

  /**
   * The likeliest classes of a picture, the likeliest first.
   *
   * @param rgb height rows of width pixels, the bytes R, G, B of each
   * @throws IllegalArgumentException where it has not as many bytes as 3 x width x height
   */
  public synchronized List<Classification> classify(byte[] rgb, int width, int height, int count) {
    computePicture(rgb, width, height);
    return top(count);
  }
//@ end
//@ end
//@ if boxes

  /**
   * What is in a picture, the surest first.
   *
   * @param rgb height rows of width pixels, the bytes R, G, B of each
   * @param threshold the least score
   * @throws IllegalArgumentException where it has not as many bytes as 3 x width x height
   */
  public synchronized List<Detection> detect(byte[] rgb, int width, int height, double threshold) {
    computePicture(rgb, width, height);
    int[] indices = new int[@most@];
    float[] numbers = new float[5 * indices.length];
    int count = detections(handle, width, height, threshold, indices, numbers);
    check(Math.max(0, -count));
    List<Detection> found = new ArrayList<>();
    for (int i = 0; i < count; ++i) found.add(new Detection(indices[i], numbers, 5 * i));
    return found;
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
//@ if workers
    if (handle != 0) endWorkers();
//@ end
    if (handle != 0) destroy(handle);
//@ if asset
    if (handle != 0) weights.close();
//@ end
    handle = 0;
  }
//@ if classes

  private List<Classification> top(int count) {
    if (count < 1) throw new IllegalArgumentException("count is " + count + "; at least one class can be asked for");
    int[] indices = new int[Math.min(count, @class_count@)];
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

  @text_functions@
//@ if texts

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
  private static native int create(byte[] path, long[] handle@memory_parameter@);
//@ else
//@ if asset
  private static native int create(ByteBuffer weights, long[] handle@memory_parameter@);

  /** A direct buffer beyond the garbage collector's reach, null without memory; {@link #free} gives it back. */
  static native ByteBuffer allocate(int bytes);

  static native void free(ByteBuffer buffer);

  /** Whether a direct buffer begins at a multiple of 16 bytes. */
  static native boolean aligned(ByteBuffer buffer);
//@ else
  private static native int create(long[] handle@memory_parameter@);
//@ end
//@ end

  private static native void destroy(long handle);

  private static native byte[] errorText(int status);

//@ if shapes
  private static native int currentShape(long handle);

  private static native int chooseShape(long handle, int number);

//@ if open
  private static native int chooseExtents(long handle, int input, long[] extents);

  private static native long memoryFor(int input, long[] extents);

//@ end
  private static native int inputBytes(long handle, int index);

  private static native int outputBytes(long handle, int index);

//@ end
//@ if threads
  private static native int chooseThreads(long handle, int count);

//@ if android
  /** Computes what the predictor shares out, until it stops. */
  private static native void work(long handle, int number);

  private static native void stop(long handle);

//@ end
//@ end
  private static native int setInput(long handle, int index, Object array, int bytes);

  private static native int compute(long handle);

  private static native int getOutput(long handle, int index, Object array, int bytes);
//@ if pictures

  private static native int preprocess(long handle, byte[] rgb, int width, int height);
//@ end
//@ if boxes
//@ if labels

  private static native byte[] label(int index);
//@ end

  private static native int detections(
      long handle, int width, int height, double threshold, int[] indices, float[] numbers);
//@ end
//@ if classes

  private static native int topK(long handle, int[] indices, float[] probabilities, byte[][] labels);
//@ end

//@ if android
  static {
    System.loadLibrary("@name@");
  }
//@ else
  static {
    Library.load();
  }
//@ end
}
