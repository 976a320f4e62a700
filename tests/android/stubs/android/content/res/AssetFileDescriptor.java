package android.content.res;

import java.io.Closeable;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;

/** As much of Android's class as the tests need. */
public class AssetFileDescriptor implements Closeable {
  private final File file;
  private final int offset;

  AssetFileDescriptor(File file, int offset) throws IOException {
    if (!file.exists()) throw new java.io.FileNotFoundException(file.getName());
    this.file = file;
    this.offset = offset;
  }

  public FileInputStream createInputStream() throws IOException {
    return new FileInputStream(file);
  }

  public long getStartOffset() {
    return offset;
  }

  public long getLength() {
    return file.length() - offset;
  }

  @Override
  public void close() {}
}
