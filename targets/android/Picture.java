package dlpack.@package@;

import android.graphics.Bitmap;
import java.nio.ByteBuffer;

/** A picture as the network takes it: {@code height} rows of {@code width} pixels, the bytes R, G, B of each. */
public final class Picture {
  public final byte[] rgb;
  public final int width;
  public final int height;

  /** @throws IllegalArgumentException where {@code rgb} has not as many bytes as 3 x width x height */
  public Picture(byte[] rgb, int width, int height) {
    if (width < 1 || height < 1 || 3L * width * height != rgb.length) {
      throw new IllegalArgumentException(
          "the picture has " + rgb.length + " bytes; 3 x " + width + " x " + height + " are needed");
    }
    this.rgb = rgb;
    this.width = width;
    this.height = height;
  }

  /** The picture in a bitmap of any configuration; what is transparent is drawn over white. */
  public static Picture of(Bitmap bitmap) {
    if ("HARDWARE".equals(String.valueOf(bitmap.getConfig()))) bitmap = bitmap.copy(Bitmap.Config.ARGB_8888, false);
    int width = bitmap.getWidth();
    int height = bitmap.getHeight();
    byte[] rgb = new byte[bytes(width, height)];
    int[] row = new int[width];
    int to = 0;
    for (int y = 0; y < height; ++y) {
      bitmap.getPixels(row, 0, width, 0, y, width, 1);
      for (int pixel : row) {
        put(rgb, to, pixel >> 16 & 255, pixel >> 8 & 255, pixel & 255, pixel >>> 24);
        to += 3;
      }
    }
    return new Picture(rgb, width, height);
  }

  /**
   * The picture in a buffer of bytes R, G, B, A, such as CameraX gives with OUTPUT_IMAGE_FORMAT_RGBA_8888.
   *
   * @param width pixels in a row of the buffer, before it is turned
   * @param height rows of the buffer
   * @param stride bytes from one row to the next, at least 4 x width
   * @param degrees by how much the picture is to be turned clockwise: 0, 90, 180 or 270
   * @throws IllegalArgumentException where the buffer is too short
   */
  public static Picture of(ByteBuffer rgba, int width, int height, int stride, int degrees) {
    if (width < 1 || height < 1 || stride < 4L * width || (height - 1L) * stride + 4L * width > rgba.limit()) {
      throw new IllegalArgumentException(
          "the buffer has " + rgba.limit() + " bytes; " + height + " rows of " + width
              + " pixels, " + stride + " bytes apart, are needed");
    }
    if (degrees % 90 != 0) throw new IllegalArgumentException(degrees + " degrees; 0, 90, 180 or 270 are possible");
    int quarters = (degrees / 90 % 4 + 4) % 4;
    boolean turned = quarters % 2 == 1;
    int across = turned ? height : width;  // of the result
    int down = turned ? width : height;
    byte[] rgb = new byte[bytes(width, height)];
    // The result's pixel (x, y) is the buffer's at first + x * right + y * below.
    int first = quarters == 1 ? (height - 1) * stride : quarters == 2 ? (height - 1) * stride + (width - 1) * 4
        : quarters == 3 ? (width - 1) * 4 : 0;
    int right = quarters == 0 ? 4 : quarters == 1 ? -stride : quarters == 2 ? -4 : stride;
    int below = quarters == 0 ? stride : quarters == 1 ? 4 : quarters == 2 ? -stride : -4;
    int to = 0;
    for (int y = 0; y < down; ++y) {
      int from = first + y * below;
      for (int x = 0; x < across; ++x, from += right, to += 3) {
        put(rgb, to, rgba.get(from) & 255, rgba.get(from + 1) & 255, rgba.get(from + 2) & 255, rgba.get(from + 3) & 255);
      }
    }
    return new Picture(rgb, across, down);
  }

  private static int bytes(int width, int height) {
    if (3L * width * height > Integer.MAX_VALUE) {
      throw new IllegalArgumentException("the picture has " + width + " x " + height + " pixels: it is too large");
    }
    return 3 * width * height;
  }

  private static void put(byte[] rgb, int at, int red, int green, int blue, int alpha) {
    rgb[at] = overWhite(red, alpha);
    rgb[at + 1] = overWhite(green, alpha);
    rgb[at + 2] = overWhite(blue, alpha);
  }

  private static byte overWhite(int value, int alpha) {
    return (byte) (alpha == 255 ? value : (2 * (value * alpha + 255 * (255 - alpha)) + 255) / 510);
  }
}
