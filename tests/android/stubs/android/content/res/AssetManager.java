package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

/** Assets that lie in one file each, behind `offset` other bytes, as in an APK. */
public final class AssetManager {
  private final File folder;
  private final int offset;
  private final boolean compressed;

  public AssetManager(File folder, int offset, boolean compressed) {
    this.folder = folder;
    this.offset = offset;
    this.compressed = compressed;
  }

  public AssetFileDescriptor openFd(String name) throws IOException {
    if (compressed) throw new FileNotFoundException("it is probably compressed");
    return new AssetFileDescriptor(new File(folder, name), offset);
  }

  public InputStream open(String name) throws IOException {
    InputStream stream = new FileInputStream(new File(folder, name));
    if (stream.skip(offset) != offset) throw new IOException("the file is short");
    return stream;
  }
}
