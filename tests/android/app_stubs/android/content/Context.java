package android.content;

import android.content.res.AssetManager;

/** A stand-in, as far as a starter project's activity needs it. */
public class Context {
  public AssetManager getAssets() {
    return null;
  }
}
