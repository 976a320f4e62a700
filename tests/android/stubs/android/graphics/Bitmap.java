package android.graphics;

/** As much of Android's class as the tests need. */
public final class Bitmap {
  public enum Config {
    ARGB_8888,
    HARDWARE
  }

  private final int[] argb;
  private final int width;
  private final Config config;

  public Bitmap(int[] argb, int width, Config config) {
    this.argb = argb;
    this.width = width;
    this.config = config;
  }

  public Config getConfig() {
    return config;
  }

  public Bitmap copy(Config config, boolean mutable) {
    return new Bitmap(argb, width, config);
  }

  public int getWidth() {
    return width;
  }

  public int getHeight() {
    return argb.length / width;
  }

  public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
    if (config == Config.HARDWARE) throw new IllegalStateException("unable to getPixels()");
    for (int row = 0; row < height; ++row) {
      System.arraycopy(argb, (y + row) * this.width + x, pixels, offset + row * stride, width);
    }
  }
}
