// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
import dlpack.awkward.Predictor;
class Main {
  public static void main(String[] arguments) {
    float[] x = {1, 2, 3, 4};
    long[] c = {10, 20, 30};
    try (Predictor p = new Predictor(arguments[0])) {
      Predictor.Outputs y = p.run(x, c);
      System.out.println("func " + (int) y.func[0] + " " + (int) y.func[1] + " " + (int) y.func[2]);
      System.out.println("in " + y.in0[0] + " " + y.in0[1] + " " + y.in0[2]);
      System.out.println("class " + p.classify(x, c, 1).get(0).label);
      try {
        p.run(x, new long[1]);
      } catch (IllegalArgumentException e) {
        System.out.println("length error");
      }
      try {
        new Predictor("absent").close();
      } catch (IllegalStateException e) {
        System.out.println("weights error");
      }
    }
  }
}
