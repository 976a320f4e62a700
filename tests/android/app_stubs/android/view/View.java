package android.view;

/** A stand-in. */
public class View {}
